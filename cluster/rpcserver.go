package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Handler serves one method. The peer is the member whose key the connection has proved, as the table has it
// at this moment; ctx ends with the caller's deadline or when this node stops. body is the handler's to keep.
type Handler func(ctx context.Context, peer Member, body []byte) ([]byte, error)

// rpcServer answers members. Requests of one connection run side by side, answers go out as they come.
type rpcServer struct {
	roster   *roster
	logger   *slog.Logger
	handlers map[string]Handler // not modified once the node runs
}

// dispatch runs a handler, for a peer or for this node itself.
func (s *rpcServer) dispatch(ctx context.Context, peer Member, method string, body []byte) ([]byte, error) {
	h, ok := s.handlers[method]
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownMethod, method)
	}
	answer, err := h(ctx, peer, body)
	if err != nil {
		return nil, err
	}
	if len(answer) > MaxBody {
		return nil, fmt.Errorf("%w: %s answered %d bytes; at most %d are allowed", ErrTooLarge, method, len(answer), MaxBody)
	}
	return answer, nil
}

func (s *rpcServer) serve(ctx context.Context, conn *peerConn) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	reader := bufio.NewReaderSize(conn, 16<<10)
	var writing sync.Mutex
	places := make(chan struct{}, MaxCallsPerPeer)
	for {
		select {
		case places <- struct{}{}: // a caller that asks for more than its share waits in the kernel's buffers
		case <-ctx.Done():
			return
		}
		// The deadline is for the pause between requests and for a request that trickles in.
		if err := conn.SetReadDeadline(time.Now().Add(rpcIdleServer)); err != nil {
			return
		}
		frame, err := readFrame(reader, maxRequestSize)
		if err != nil {
			if errors.Is(err, errMalformed) {
				s.logger.Warn("closing a connection", "from", conn.RemoteAddr().String(), "error", err)
			}
			return
		}
		r, err := parseRequest(frame)
		if err != nil {
			s.logger.Warn("closing a connection", "from", conn.RemoteAddr().String(), "error", err)
			return
		}
		// The frame may have been buffered before the removal was applied.
		peer, ok := s.roster.memberByKey(conn.key)
		if !ok {
			return
		}
		running.Go(func() {
			defer func() { <-places }()
			answer := s.answer(ctx, peer, r)
			writing.Lock()
			defer writing.Unlock()
			_ = conn.SetWriteDeadline(time.Now().Add(dialTimeout))
			if _, err := conn.Write(appendResponse(nil, answer)); err != nil {
				_ = conn.Close() // half an answer went out, so nothing after it could be understood
			}
		})
	}
}

func (s *rpcServer) answer(ctx context.Context, peer Member, r request) response {
	ctx, cancel := context.WithTimeout(ctx, min(r.timeout, MaxRPCTime))
	defer cancel()
	body, err := s.dispatch(ctx, peer, r.method, r.body)
	if err != nil {
		return failure(r.id, err)
	}
	return response{id: r.id, body: body}
}
