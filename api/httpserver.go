package api

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/identity"
)

const (
	readBufferSize = 16 << 10 // bounds a request's headers: a DPoP proof and a JWT go together in 4 KiB no more
	defaultRead    = 10 * time.Second
	defaultWrite   = 30 * time.Second
	defaultIdle    = 120 * time.Second

	// arrivalGrace is how long a request that has begun to arrive may still take once the server shuts down.
	arrivalGrace = time.Second
	// hurryEvery is how often the connections are told so: fasthttp sets deadlines of its own meanwhile.
	hurryEvery = 50 * time.Millisecond
)

// HTTPServer serves the public surface with every limit and timeout set.
type HTTPServer struct {
	http *fasthttp.Server

	mu    sync.Mutex
	conns map[net.Conn]struct{} // those that are open, which Limits bounds
}

// Server makes an HTTP server. Whoever calls it serves listeners with it and shuts it down.
func (a *API) Server() *HTTPServer {
	s := &HTTPServer{conns: map[net.Conn]struct{}{}}
	s.http = &fasthttp.Server{
		Handler:                       a.receive,
		HeaderReceived:                hideBody, // see body.go
		ErrorHandler:                  a.refuseUnparsed,
		ConnState:                     s.track,
		Logger:                        quietLogger{a.logger},
		Concurrency:                   a.Limits.Connections,
		ReadBufferSize:                readBufferSize,
		WriteBufferSize:               4 << 10,
		ReadTimeout:                   orDefault(a.Limits.ReadTimeout, defaultRead),
		WriteTimeout:                  orDefault(a.Limits.WriteTimeout, defaultWrite),
		IdleTimeout:                   orDefault(a.Limits.IdleTimeout, defaultIdle),
		MaxConnsPerIP:                 a.Limits.ConnectionsPerAddress,
		MaxRequestBodySize:            maxBody,
		TCPKeepalive:                  true,
		DisablePreParseMultipartForm:  true,
		SecureErrorLogMessage:         true,
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		LazyRequestTime:               true,
		CloseOnShutdown:               true,
		MaxIdleWorkerDuration:         10 * time.Second,
		DisableHeaderNamesNormalizing: false,
	}
	return s
}

// Serve accepts connections until the listener is closed or the server is shut down.
func (s *HTTPServer) Serve(l net.Listener) error { return s.http.Serve(l) }

// ShutdownWithContext closes the listeners and the idle connections, lets the requests that are being served
// end, and returns when all is closed or ctx ends. Only a request that has not wholly arrived is cut short:
// fasthttp would wait for it, or for the first byte of a connection that sends none, as long as ReadTimeout.
func (s *HTTPServer) ShutdownWithContext(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.http.ShutdownWithContext(ctx) }()
	deadline := time.Now().Add(arrivalGrace)
	again := time.NewTicker(hurryEvery)
	defer again.Stop()
	for {
		s.hurry(deadline)
		select {
		case err := <-ended:
			return err
		case <-again.C:
		}
	}
}

// track keeps the connections that are open.
func (s *HTTPServer) track(c net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}
}

// hurry bounds what is still to be read. A handler that runs reads nothing, so that it is left alone.
func (s *HTTPServer) hurry(deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.SetReadDeadline(deadline) // fails only on one that is closed
	}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// quietLogger takes fasthttp's lines, which are about single connections, to the debug level.
type quietLogger struct{ logger *slog.Logger }

func (q quietLogger) Printf(format string, args ...any) {
	if q.logger.Enabled(context.Background(), slog.LevelDebug) {
		q.logger.Debug("connection", "event", identity.Errorf(identity.CodeInternal, format, args...).Message)
	}
}
