"""Whether an answer is one that a right server may give.

Owns what each operation may be told, given what else went on at the time; what
it says of the names' contents goes to `history`. Must not know how requests are
made.
"""

from collections import Counter, defaultdict

from . import functions, plan
from .history import ABSENT, PRESENT, Effect, impossible

# The clocks of two processes on one machine, and the way between them.
SLACK_S = 0.1
# The longest wait before a handler is started that dies again and again, and
# its start on a machine that is busy.
BACKOFF_S = 30 + 15
# How long a request may lie in the server's sockets before it is heard.
HEARD_S = 5
# How long handlers cannot be started when the process died that starts them.
MURDER_S = 5
BAD_UPLOADS = {
    **dict.fromkeys(functions.BROKEN, 422),
    "no zip": 400, "empty zip": 422, "not JSON": 400, "environment": 422, "threads": 422, "name": 422,
    "url gone": 502, "url no zip": 422, "subfolder": 422,
}
EVENTS = ["queued", "unpacking", "building", "starting", "ready"]
# How many of a name's last operations are shown with what is wrong.
SHOWN = 25


def judge(records, room):
    """What is wrong, a text each; nothing is where all may be right."""
    return _Judge(records, room).wrong()


def judge_marks(records, marks, output):
    """What is wrong with which calls have run: none may have run twice, and one
    that was accepted has run, or was cancelled, or the server's output names it."""
    counts, complaints = Counter(marks.read_text().split()), []
    for record in records:
        if record.operation.details.get("kind") != "mark":
            continue
        ran = counts[record.token]
        answered = record.result if record.operation.what == "accept" else record.answer
        if ran > 1:
            complaints.append(f"a call was run {ran} times\n    {record}")
        elif not ran and answered and answered.status == 200 and record.state.get("state") != "cancelled":
            complaints.append(f"a call was answered that has not run\n    {record}")
        elif not ran and record.operation.what == "accept" and record.answer and record.answer.status == 202:
            cancelled = record.operation.details["then"] == "cancel"
            if not cancelled and record.answer.headers["x-tinyfaas-call-id"] not in output:
                complaints.append(f"an accepted call was not run, and nothing was said of it\n    {record}")
    return complaints


class _Judge:
    def __init__(self, records, room):
        self.records = sorted(records, key=lambda record: record.start)
        self.settings = plan.SETTINGS[room]
        self.narrow = room == "narrow"
        self.effects = defaultdict(list)
        self.by_name = defaultdict(list)
        self.uploads = []
        self.murders = [record for record in self.records if record.operation.what == "murder"]
        for record in self.records:
            self.by_name[record.operation.name].append(record)
            if "upload" in record.operation.what:
                self.uploads.append(record)
        self.complaints = []

    def wrong(self):
        for record in self.records:
            said = getattr(self, "_" + record.operation.what.replace(" ", "_"))(record)
            if said:
                self._complain(record, said)
        for name in plan.NAMES:
            effect = impossible(self.effects[name])
            if effect:
                seen = "no function" if effect.value is ABSENT else effect.value
                self._complain(effect.record, f"of {name}: no order explains this {effect.kind} of {seen}", name)
        return self.complaints

    def _complain(self, record, what, name=None):
        name = name or record.operation.name
        around = [
            other for other in self.records
            if other.start <= record.end and (other.operation.name == name or other.operation.what in ("wipe", "murder") or not name)
        ]
        lines = [f"{what}\n    {record}", f"  the last operations on {name or 'anything'} that began before its end:"]
        lines += [f"    {other}" for other in around[-SHOWN:]]
        self.complaints.append("\n".join(lines))

    def _effect(self, record, kind, value=ABSENT, name=None, end=None, optional=False, replaced=None):
        end = record.end if end is None else end
        effect = Effect(record.start, end, kind, value, replaced, optional, record)
        self.effects[name or record.operation.name].append(effect)

    def _overlapping(self, records, record):
        return [other for other in records if other is not record and other.start <= record.end and other.end >= record.start]

    # Managing

    def _murder(self, record):
        return None

    def _list(self, record):
        if record.instead or record.answer.status != 200:
            return "the list was not shown"
        names = record.answer.text.split()
        if names != sorted(set(names)) or not set(names) <= set(plan.NAMES):
            return "the list is not in order, or has strange names"
        for name in plan.NAMES:
            self._effect(record, "read", PRESENT if name in names else ABSENT, name)
        return None

    def _look(self, record):
        status = record.answer.status if record.answer else 0
        if status not in (200, 404):
            return "a function was not shown"
        self._effect(record, "read", PRESENT if status == 200 else ABSENT)
        return None

    def _state(self, record):
        status = record.answer.status if record.answer else 0
        if status == 503 and self._after_murder(record, MURDER_S):
            return None
        return None if status == 200 else "the server does not tell how it is"

    def _logs(self, record):
        status = record.answer.status if record.answer else 0
        if status == 404 and record.operation.name:
            self._effect(record, "read", ABSENT)
            return None
        return None if status == 200 else "the log was not shown"

    def _wipe(self, record):
        for name in plan.NAMES:
            self._effect(record, "write", ABSENT, name)
        return None if record.answer and record.answer.status in (200, 204) else "wiping failed"

    def _delete(self, record):
        status = record.answer.status if record.answer else 0
        if status in (200, 204):
            self._effect(record, "take")
        elif status == 404:
            self._effect(record, "read", ABSENT)
        else:
            return "deleting failed"
        return None

    def _upload(self, record):
        version = record.operation.details["version"]
        if record.instead == "left":
            # It may have been heard, and be carried out until a later turn is over.
            later = (
                other.end for other in self.by_name[record.operation.name]
                if other.start > record.end + HEARD_S and other.answer
                and (other.operation.what == "delete" or other.operation.what == "upload" and other.answer.status in (200, 201))
            )
            self._effect(record, "write", version, end=min(later, default=float("inf")), optional=True)
            return None
        status = record.answer.status if record.answer else 0
        if status in (200, 201):
            told = record.operation.details["by"] in ("put", "stream")
            self._effect(record, "write", version, replaced=status == 200 if told else None)
            events = [event["event"] for event in record.events if event["event"] != "output"]
            return None if not events or events == EVENTS else f"an upload went by {events}"
        if self._after_murder(record, MURDER_S):
            return None
        return self._no_slot(record) if status == 503 else "a good upload failed"

    def _bad_upload(self, record):
        if record.instead == "left":
            return None
        status = record.answer.status if record.answer else 0
        if status == 503:
            return self._no_slot(record)
        if self._after_murder(record, MURDER_S):
            return None
        expected = BAD_UPLOADS[record.operation.details["how"]]
        return None if status == expected else f"a bad upload was not told {expected}"

    def _no_slot(self, record):
        if "retry-after" not in record.answer.headers:
            return "a 503 without Retry-After"
        others = self._overlapping(self.uploads, record)
        # One that left may go on for long.
        others += [other for other in self.uploads if other.instead == "left" and other.start < record.start]
        if len(set(map(id, others))) < self.settings["TF_UPLOADS_MAX"]:
            return "an upload was refused though there was room for it"
        return None

    # Calling

    def _call(self, record):
        if record.instead == "left":
            return None
        if record.instead:
            return self._broken(record)
        return self._answered(record, record.answer, record.end - record.start)

    def _accept(self, record):
        if not record.answer:
            return self._broken(record)
        status = record.answer.status
        if status in (404, 503):
            return self._answered(record, record.answer, 0, accepting=True)
        if status != 202:
            return "an asynchronous call was not told 202, 404 or 503"
        self._effect(record, "read", PRESENT)
        if record.instead:
            return "an accepted call's fate cannot be learned"
        then, state = record.operation.details["then"], record.state.get("state")
        if then == "forget" or state == "cancelled":
            return None if then in ("forget", "cancel") else "nobody cancelled this call"
        if record.result.status == 404 and not record.state.get("ended_at"):
            soon = record.end - record.start < plan.KEEP_S and not self.narrow
            return "an accepted call was forgotten too soon" if soon else None
        if state not in ("succeeded", "failed"):
            return f"an accepted call is {state}"
        # A result that is not there, and not the result that no function was there.
        if record.result.status in (404, 410) and "there is no function" not in record.result.text:
            soon = record.end - record.start < plan.KEEP_S and not self.narrow
            return "the result of an accepted call was not kept" if soon else None
        return self._answered(record, record.result, (record.state["ran_ms"] or 0) / 1000)

    def _answered(self, record, answer, took, accepting=False):
        """Judges the answer to a call."""
        if answer.status == 404:
            self._effect(record, "read", ABSENT)
            return None
        said = answer.text.split("\n")[0].split(" ")
        kind = record.operation.details["kind"]
        if len(said) > 1 and said[1] == record.token and not accepting:
            self._effect(record, "read", said[0])
            return self._reply(record, answer, " ".join(said[:2]))
        if kind == "fail" and record.token in answer.text and answer.status == 500:
            return None
        if answer.status in (429, 503) and "retry-after" not in answer.headers:
            return f"a {answer.status} without Retry-After"
        if answer.status == 429:
            return self._full(record)
        if answer.status == 503:
            return None if self._disturbed(record) or self._many(record) else "a call was refused for no reason"
        if answer.status == 504:
            enough = took >= plan.DEADLINE_S - SLACK_S
            return None if enough else f"a 504 after {took:.2f} s, before the deadline"
        if answer.status in (500, 502) and (self._disturbed(record) or self._cut_off(record)):
            return None
        return "a call was answered by nobody, for no reason"

    def _reply(self, record, answer, said):
        details = record.operation.details
        kind = details["kind"]
        expected = {"fail": (500,), "teapot": (200, 418)}.get(kind, (200,))
        if answer.status not in expected:
            return f"the status of a reply is not {expected}"
        if kind == "crash":
            return "a function that ended has replied"
        if answer.body != functions.reply(kind, details["argument"], said) and kind != "fail":
            return f"a reply of {len(answer.body)} bytes is not what the function sent"
        return None

    def _broken(self, record):
        took = record.end - record.start
        if record.instead.startswith("hangs"):
            return "a call has no answer"
        if self._disturbed(record) or self._cut_off(record) or took >= plan.DEADLINE_S - SLACK_S:
            return None
        return "a call was not answered"

    def _full(self, record):
        name = record.operation.name
        others = self._overlapping(self.by_name[name], record)
        calls = [other for other in others if other.operation.what in ("call", "accept")]
        limit = self.settings.get("TF_WAITING_PER_FUNCTION", 256)
        # Those who have left hold their places until their function ends.
        left = [
            other for other in self.by_name[name]
            if other.start < record.start and other.end < record.start and record.start - other.start < plan.DEADLINE_S + 2
        ]
        return None if len(calls) + len(left) > limit else "a call was told 429 though few were there"

    def _many(self, record):
        """As many calls went on as may wait in the whole server."""
        calls = [other for other in self.records if other.operation.what in ("call", "accept")]
        limit = min(self.settings.get("TF_WAITING_TOTAL", 4096), self.settings.get("TF_ASYNC_WAITING", 4096))
        wide = plan.DEADLINE_S * 4
        near = [other for other in calls if other.start <= record.end and other.end >= record.start - wide]
        return len(near) > limit or self.narrow and record.operation.details["kind"] == "take"

    def _disturbed(self, record):
        """A function of this name may have ended its handler not long before."""
        if self._after_murder(record, BACKOFF_S):
            return True
        if record.operation.name not in plan.WILD:
            return False
        for other in self.by_name[record.operation.name]:
            details = other.operation.details
            wicked = details.get("kind") in ("crash", "hog") or (
                details.get("kind") == "sleep" and details["argument"] > plan.DEADLINE_S
            )
            if wicked and other.start <= record.end and other.end + BACKOFF_S >= record.start:
                return True
        return False

    def _after_murder(self, record, within):
        return any(murder.start <= record.end and murder.end + within >= record.start for murder in self.murders)

    def _cut_off(self, record):
        """Its function was removed, and the time that calls then have was over."""
        removals = [
            other for other in self.records
            if other.end - other.start >= plan.DRAIN_DELETE_S - SLACK_S
            and (other.operation.what == "wipe" or other.operation.what == "delete" and other.operation.name == record.operation.name)
        ]
        return bool(self._overlapping(removals, record))
