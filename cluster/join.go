package cluster

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"time"
)

// JoinHandler answers a key that isn't in the table. All that is known is that the other end has that key; the
// body must prove the rest. What it returns goes to the stranger, errors only as their text.
type JoinHandler func(ctx context.Context, key ed25519.PublicKey, remote net.Addr, body []byte) ([]byte, error)

// joinTimeout bounds a join from the first byte to the last.
const joinTimeout = 30 * time.Second

// HandleJoin sets the handler of ALPN deputy-join. Call it before Start; without it, joins are refused.
func (n *Node) HandleJoin(h JoinHandler) {
	if n.started.Load() {
		panic("BUG: HandleJoin after Start")
	}
	n.joinHandler = h
}

// serveJoin serves the one request of a join connection.
func (n *Node) serveJoin(ctx context.Context, conn *peerConn) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return
	}
	frame, err := readFrame(conn, requestHeader+MaxMethodLength+MaxJoinBody)
	if err != nil {
		return
	}
	r, err := parseRequest(frame)
	if err != nil || r.method != protocolJoin || len(r.body) > MaxJoinBody {
		return
	}
	_ = conn.SetWriteDeadline(time.Now().Add(joinTimeout))
	select {
	case n.joins <- struct{}{}: // only now: whoever says nothing takes no place
		defer func() { <-n.joins }()
	default:
		n.metrics.rejected.WithLabelValues(rejectedBusy).Inc()
		_, _ = conn.Write(appendResponse(nil, failure(r.id, ErrOverloaded)))
		return
	}
	ctx, cancel = context.WithTimeout(ctx, min(r.timeout, joinTimeout))
	defer cancel()
	answer := response{id: r.id}
	if n.joinHandler == nil {
		answer = failure(r.id, ErrUnknownMethod)
	} else if body, err := n.joinHandler(ctx, conn.key, conn.RemoteAddr(), r.body); err != nil {
		answer = failure(r.id, err)
	} else if len(body) > MaxBody {
		answer = failure(r.id, ErrTooLarge)
	} else {
		answer.body = body
	}
	_, _ = conn.Write(appendResponse(nil, answer))
}

// JoinCall asks the member at addr, whose key must be pin, to let in the holder of key. It needs no Node: the
// joiner has none yet. Errors are ErrUnreachable where nothing was asked, ErrOutcomeUnknown where no answer
// came, and *RemoteError where the member refused.
func JoinCall(ctx context.Context, addr string, pin ed25519.PublicKey, key NodeKey, body []byte) ([]byte, error) {
	if len(body) > MaxJoinBody {
		return nil, fmt.Errorf("%w: %d bytes; at most %d are allowed", ErrTooLarge, len(body), MaxJoinBody)
	}
	if len(pin) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("the pin has %d bytes; it must have %d", len(pin), ed25519.PublicKeySize)
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	certificate, err := selfSigned("joiner", key)
	if err != nil {
		return nil, err
	}
	conn, err := dialTLS(ctx, addr, clientTLS(certificate, protocolJoin, pin))
	if err != nil {
		return nil, fmt.Errorf("%w: joining by %s: %w", ErrUnreachable, addr, err)
	}
	defer conn.Close() //nolint:errcheck // the answer has been read
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })
	defer stop()
	deadline, _ := ctx.Deadline()
	r := request{id: 1, timeout: time.Until(deadline), method: protocolJoin, body: body}
	if _, err := conn.Write(appendRequest(nil, r)); err != nil {
		return nil, fmt.Errorf("%w: joining by %s: %w", ErrOutcomeUnknown, addr, errors.Join(err, ctx.Err()))
	}
	frame, err := readFrame(conn, maxResponseSize)
	if err != nil {
		return nil, fmt.Errorf("%w: joining by %s: %w", ErrOutcomeUnknown, addr, errors.Join(err, ctx.Err()))
	}
	answer, err := parseResponse(frame)
	if err != nil {
		return nil, fmt.Errorf("%w: joining by %s: %w", ErrOutcomeUnknown, addr, err)
	}
	if answer.status != statusOK {
		return nil, &RemoteError{Member: addr, Method: "join", Message: string(answer.body), cause: answer.status.err()}
	}
	return answer.body, nil
}
