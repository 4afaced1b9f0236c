// Command call calls a function of tinyFaaS over gRPC. It reads the function's input
// and prints its reply; what comes with the reply goes to standard error:
//
//	echo hello | call echo
//	call -how bytes -header "Lab: 42" resize <photo.jpg >small.jpg
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/OpenFogStack/tinyFaaS/pkg/grpc/tinyfaas"
	tinyfaasv2 "github.com/OpenFogStack/tinyFaaS/pkg/grpc/tinyfaas/v2"
)

const (
	// The server's own limit of a message; a client takes 4 MiB unless it is told.
	messageBytesMax = 16 << 20
	// The most of a streamed input that goes in one message.
	pieceBytes = 32 << 10
	// How long the server is asked to wait for a result before it is asked again.
	wait = 30 * time.Second
)

// call is what the command line asks for.
type call struct {
	client   grpc.ClientConnInterface
	function string
	headers  headers
}

// headers is a flag that may be repeated: -header "NAME: VALUE".
type headers [][2]string

func (h *headers) String() string { return "" }

func (h *headers) Set(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found {
		return errors.New("a header is NAME: VALUE")
	}
	*h = append(*h, [2]string{name, strings.TrimSpace(value)})
	return nil
}

func main() {
	var call call
	address := flag.String("address", "localhost:9000", "where the server takes gRPC calls")
	how := flag.String("how", "text", "text (version 1 of the interface); bytes, stream, async (version 2)")
	authorities := flag.String("ca-file", "", "speak TLS, and trust the authorities in this PEM file")
	timeout := flag.Duration("timeout", 5*time.Minute, "how long the call may take")
	flag.Var(&call.headers, "header", "NAME: VALUE, a header for the function; may be repeated")
	flag.Parse()
	ways := map[string]func(context.Context) error{
		"text": call.text, "bytes": call.bytes, "stream": call.stream, "async": call.async,
	}
	way, known := ways[*how]
	if !known || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: call [-address HOST:PORT] [-ca-file FILE] [-how text|bytes|stream|async] [-header 'NAME: VALUE'] FUNCTION")
		os.Exit(2)
	}
	call.function = flag.Arg(0)

	transport := insecure.NewCredentials()
	if *authorities != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(*authorities, ""); err != nil {
			fail(err)
		}
	}
	connection, err := grpc.NewClient(*address,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)))
	if err != nil {
		fail(err)
	}
	defer connection.Close()
	call.client = connection
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := way(ctx); err != nil {
		fail(err)
	}
}

func fail(err error) {
	if told, ok := status.FromError(err); ok {
		err = fmt.Errorf("%s: %s", told.Code(), told.Message())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// text calls by version 1: text in, text out, headers as metadata.
func (c *call) text(ctx context.Context) error {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	for _, header := range c.headers {
		ctx = metadata.AppendToOutgoingContext(ctx, header[0], header[1])
	}
	reply, err := tinyfaas.NewTinyFaaSClient(c.client).Request(ctx,
		&tinyfaas.Data{FunctionIdentifier: c.function, Data: string(input)})
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(reply.GetResponse())
	return err
}

// bytes calls by version 2, with the whole input and the whole reply at once.
func (c *call) bytes(ctx context.Context) error {
	request, err := c.whole()
	if err != nil {
		return err
	}
	reply, err := tinyfaasv2.NewTinyFaaSClient(c.client).Invoke(ctx, request)
	if err != nil {
		return err
	}
	return show(reply)
}

// stream sends the input as it is read and prints the reply as it comes.
func (c *call) stream(ctx context.Context) error {
	stream, err := tinyfaasv2.NewTinyFaaSClient(c.client).InvokeStream(ctx)
	if err != nil {
		return err
	}
	go func() {
		// That the server has ended the stream is for Recv to tell.
		if err := c.send(stream); err != nil && err != io.EOF {
			fail(err)
		}
	}()
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch part := message.GetPart().(type) {
		case *tinyfaasv2.InvokeStreamResponse_Head:
			err = show(part.Head)
		case *tinyfaasv2.InvokeStreamResponse_Body:
			_, err = os.Stdout.Write(part.Body)
		}
		if err != nil {
			return err
		}
	}
}

func (c *call) send(stream tinyfaasv2.TinyFaaS_InvokeStreamClient) error {
	head := &tinyfaasv2.InvokeStreamRequest_Head{Head: c.request()}
	if err := stream.Send(&tinyfaasv2.InvokeStreamRequest{Part: head}); err != nil {
		return err
	}
	piece := make([]byte, pieceBytes)
	for {
		length, err := os.Stdin.Read(piece)
		if length > 0 {
			body := &tinyfaasv2.InvokeStreamRequest_Body{Body: piece[:length]}
			if err := stream.Send(&tinyfaasv2.InvokeStreamRequest{Part: body}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return stream.CloseSend()
		}
		if err != nil {
			return err
		}
	}
}

// async leaves the call with the server, and asks for its result until there is one.
func (c *call) async(ctx context.Context) error {
	request, err := c.whole()
	if err != nil {
		return err
	}
	client := tinyfaasv2.NewTinyFaaSClient(c.client)
	accepted, err := client.InvokeAsync(ctx, request)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "accepted:", accepted.GetCallId())
	for {
		result, err := client.GetResult(ctx, &tinyfaasv2.GetResultRequest{
			CallId: accepted.GetCallId(), Wait: durationpb.New(wait),
		})
		if err != nil {
			return err
		}
		switch result.GetState() {
		case tinyfaasv2.GetResultResponse_STATE_WAITING, tinyfaasv2.GetResultResponse_STATE_RUNNING:
			continue
		case tinyfaasv2.GetResultResponse_STATE_SUCCEEDED:
			return show(result.GetResponse())
		default:
			return fmt.Errorf("%s: %s", result.GetState(), result.GetError().GetMessage())
		}
	}
}

// request is a call without its input.
func (c *call) request() *tinyfaasv2.InvokeRequest {
	request := &tinyfaasv2.InvokeRequest{Function: c.function}
	for _, header := range c.headers {
		request.Headers = append(request.Headers,
			&tinyfaasv2.Header{Name: header[0], Value: []byte(header[1])})
	}
	return request
}

// whole is a call with all of its input.
func (c *call) whole() (*tinyfaasv2.InvokeRequest, error) {
	input, err := io.ReadAll(os.Stdin)
	request := c.request()
	request.Body = input
	return request, err
}

// show prints a reply: its body, and what comes with it beside.
func show(reply *tinyfaasv2.InvokeResponse) error {
	fmt.Fprintln(os.Stderr, "status:", reply.GetStatus())
	for _, header := range reply.GetHeaders() {
		fmt.Fprintf(os.Stderr, "header: %s: %s\n", header.GetName(), header.GetValue())
	}
	_, err := os.Stdout.Write(reply.GetBody())
	return err
}
