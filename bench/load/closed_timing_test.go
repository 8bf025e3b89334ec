package load

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// BenchmarkExchange is one request and its answer over loopback, both ends in this process: what the generator
// itself costs is less than half of it.
func BenchmarkExchange(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("ok") }, CloseOnShutdown: true}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	defer func() {
		require.NoError(b, server.Shutdown())
		require.NoError(b, <-done)
	}()
	c, err := Dial(b.Context(), listener.Addr().String(), nil)
	require.NoError(b, err)
	defer c.Close()
	request := get("/")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.Exchange(request); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHead(b *testing.B) {
	text := []byte("HTTP/1.1 200 OK\r\nServer: fasthttp\r\nDate: Fri, 17 Apr 2026 08:00:00 GMT\r\n" +
		"Content-Type: application/json\r\nContent-Length: 0\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := parseHead(text); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
