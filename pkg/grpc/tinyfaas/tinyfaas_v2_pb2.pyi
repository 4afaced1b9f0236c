from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    def __init__(self, name: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class InvokeRequest(_message.Message):
    __slots__ = ("function", "body", "headers", "method", "path")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    function: str
    body: bytes
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    method: str
    path: str
    def __init__(self, function: _Optional[str] = ..., body: _Optional[bytes] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., method: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class InvokeResponse(_message.Message):
    __slots__ = ("status", "headers", "body", "call_id")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    status: int
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    body: bytes
    call_id: str
    def __init__(self, status: _Optional[int] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., body: _Optional[bytes] = ..., call_id: _Optional[str] = ...) -> None: ...

class InvokeStreamRequest(_message.Message):
    __slots__ = ("head", "body")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    head: InvokeRequest
    body: bytes
    def __init__(self, head: _Optional[_Union[InvokeRequest, _Mapping]] = ..., body: _Optional[bytes] = ...) -> None: ...

class InvokeStreamResponse(_message.Message):
    __slots__ = ("head", "body")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    head: InvokeResponse
    body: bytes
    def __init__(self, head: _Optional[_Union[InvokeResponse, _Mapping]] = ..., body: _Optional[bytes] = ...) -> None: ...

class InvokeAsyncResponse(_message.Message):
    __slots__ = ("call_id",)
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    def __init__(self, call_id: _Optional[str] = ...) -> None: ...

class GetResultRequest(_message.Message):
    __slots__ = ("call_id", "wait")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    wait: _duration_pb2.Duration
    def __init__(self, call_id: _Optional[str] = ..., wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetResultResponse(_message.Message):
    __slots__ = ("state", "response", "error")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[GetResultResponse.State]
        STATE_WAITING: _ClassVar[GetResultResponse.State]
        STATE_RUNNING: _ClassVar[GetResultResponse.State]
        STATE_SUCCEEDED: _ClassVar[GetResultResponse.State]
        STATE_FAILED: _ClassVar[GetResultResponse.State]
        STATE_CANCELLED: _ClassVar[GetResultResponse.State]
        STATE_LOST: _ClassVar[GetResultResponse.State]
    STATE_UNSPECIFIED: GetResultResponse.State
    STATE_WAITING: GetResultResponse.State
    STATE_RUNNING: GetResultResponse.State
    STATE_SUCCEEDED: GetResultResponse.State
    STATE_FAILED: GetResultResponse.State
    STATE_CANCELLED: GetResultResponse.State
    STATE_LOST: GetResultResponse.State
    class Error(_message.Message):
        __slots__ = ("code", "message")
        CODE_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        code: int
        message: str
        def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    state: GetResultResponse.State
    response: InvokeResponse
    error: GetResultResponse.Error
    def __init__(self, state: _Optional[_Union[GetResultResponse.State, str]] = ..., response: _Optional[_Union[InvokeResponse, _Mapping]] = ..., error: _Optional[_Union[GetResultResponse.Error, _Mapping]] = ...) -> None: ...
