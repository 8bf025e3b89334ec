package api

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// One route takes a body that no memory could hold. fasthttp can hand requests over before their bodies have
// arrived, but for all routes or for none, and at a cost for each of them, with no bound on what a handler then
// reads. So the body of this route alone is hidden from it: its length is taken out of the header before the body
// would be read, and the connection is taken over, to be served here and closed.

// headerHidden keeps the length of a hidden body: fasthttp's number for it, -1 where it comes in chunks. Clients
// can't set it, as it is set for every request that it is read of.
const headerHidden = "X-Deputy-Hidden-Length"

// lingering is how long what a client still sends is taken in after the answer: a connection that is closed before
// would be reset, and the answer lost with it.
const lingering = 2 * time.Second

// hideBody is fasthttp's hook between a request's header and its body. Whatever becomes of the request, the
// connection can't be used for another: its body is still on it.
func hideBody(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if h.IsPost() && takesStream(h.RequestURI()) {
		h.Set(headerHidden, strconv.Itoa(h.ContentLength()))
		h.SetContentLength(0)
		h.SetConnectionClose()
	}
	return fasthttp.RequestConfig{}
}

// takesStream reports whether a request target is the route that reads its body as it arrives.
func takesStream(target []byte) bool {
	return len(target) >= len(snapshotPath) && string(target[:len(snapshotPath)]) == snapshotPath &&
		(len(target) == len(snapshotPath) || target[len(snapshotPath)] == '?')
}

// receive serves a request from the network.
func (a *API) receive(ctx *fasthttp.RequestCtx) {
	if !ctx.IsPost() || !takesStream(ctx.Request.Header.RequestURI()) {
		a.router.Handler(ctx)
		return
	}
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(conn net.Conn) { a.serveStream(ctx, conn) })
}

// serveStream serves a request whose body is still on the connection, and answers it.
func (a *API) serveStream(ctx *fasthttp.RequestCtx, conn net.Conn) {
	patience := orDefault(a.Limits.ReadTimeout, defaultRead)
	inner := new(fasthttp.RequestCtx)
	inner.Init(&ctx.Request, ctx.RemoteAddr(), nil)
	request := &inner.Request
	length, err := strconv.Atoi(string(request.Header.Peek(headerHidden)))
	request.Header.Del(headerHidden)
	request.Header.SetContentLength(length)
	if err == nil && (length > 0 || length == -1) {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		err = request.ContinueReadBodyStream(bufio.NewReader(conn), 1, false)
		request.SetBodyStream(&patientReader{conn: conn, stream: request.BodyStream(), patience: patience, left: maxBackup}, length)
	}
	if err != nil {
		a.refuseUnparsed(inner, err)
	} else {
		a.router.Handler(inner)
	}
	inner.Response.Header.SetConnectionClose()
	_ = conn.SetWriteDeadline(time.Now().Add(orDefault(a.Limits.WriteTimeout, defaultWrite)))
	w := bufio.NewWriter(conn)
	if inner.Response.Write(w) != nil || w.Flush() != nil {
		return
	}
	if half, ok := ctx.Conn().(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = conn.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, conn)
}

// patientReader reads a long body: each piece may take as long as a whole request, and there is a bound to it all.
type patientReader struct {
	conn     net.Conn
	stream   io.Reader
	patience time.Duration
	left     int64 // bytes that may still come
}

func (r *patientReader) Read(p []byte) (int, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.patience)); err != nil {
		return 0, err
	}
	n, err := r.stream.Read(p)
	if r.left -= int64(n); r.left < 0 {
		return n, tooLargeBackup()
	}
	return n, err
}
