package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/deputy-id/deputy/api/wire"
)

const (
	streamPath = revocationsPath + "/stream"

	// maxEventLine bounds one line of a stream: an event has at most wire.MaxStreamEntries handles.
	maxEventLine = 1 << 20
	// openWait is how long a node may take to begin a stream.
	openWait = 5 * time.Second
	// missedHeartbeats is how many may be missing before a stream is given up.
	missedHeartbeats = 3
)

// RevocationEvent is one event of the revocation stream; see GET /api/v1/revocations/stream.
type RevocationEvent struct {
	// Type is one of wire.EventOpen and its like, or EventHeartbeat.
	Type string `json:"event"`
	wire.RevocationEvent
}

// EventHeartbeat is the type of what is a comment on the wire: nothing has happened, up to Index where that is set.
const EventHeartbeat = "heartbeat"

// StreamEndError says why a node has hung up by itself.
type StreamEndError struct {
	Address string
	Code    string // wire.EndShutdown, wire.EndBehind, or the code of an error
	Detail  string
}

func (e *StreamEndError) Error() string {
	return fmt.Sprintf("%s ended the stream: %s: %s", e.Address, e.Code, e.Detail)
}

var (
	errSilent     = errors.New("the node has sent nothing for too long")
	errAnotherLog = errors.New("the indexes of the cluster's log begin anew")
	errStreamOver = errors.New("the connection ended in the middle of the stream")
)

// position is how far somebody has followed the stream.
type position struct {
	log   string // "" before the first event
	index uint64 // up to here they have everything
}

// follow reads one node's stream from at on, which it moves along, until it breaks. Each is called for every event,
// after at was moved; its error ends the stream.
func (c *Client) follow(ctx context.Context, address *url.URL, who *Credentials, at *position, each func(*RevocationEvent) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(openWait, func() { cancel(errSilent) })
	defer silence.Stop()
	err := c.readStream(ctx, address, who, at, each, silence)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (c *Client) readStream(ctx context.Context, address *url.URL, who *Credentials, at *position, each func(*RevocationEvent) error, silence *time.Timer) error {
	target := address.String() + streamPath
	if at.index > 0 {
		target += "?from=" + strconv.FormatUint(at.index, 10)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	c.sign(request, who)
	request.Header.Del(wire.HeaderIndex) // how far it has followed is all that counts
	response, err := c.http.Do(request)
	if err != nil {
		return cause(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, wire.MaxBodyBytes))
		if err != nil {
			return err
		}
		return refusal(address.String(), response, text)
	}
	limit := openWait
	events := eventReader{lines: bufio.NewReaderSize(response.Body, 32<<10), alive: func() { silence.Reset(limit) }}
	for {
		e, err := events.next()
		if err != nil {
			return err
		}
		switch e.Type {
		case wire.EventOpen:
			if e.Heartbeat > 0 {
				limit = missedHeartbeats*time.Duration(e.Heartbeat)*time.Millisecond + time.Second
			}
			if at.log != "" && at.log != e.Log {
				at.index = 0 // an index of another log says nothing
			}
			at.log = e.Log
			if err := each(e); err != nil {
				return err
			}
			if e.Resumed && at.index == 0 {
				return errAnotherLog
			}
			continue
		case wire.EventEnd:
			_ = each(e) // it ends in any case
			return &StreamEndError{Address: address.String(), Code: e.Code, Detail: e.Detail}
		case wire.EventSynced, wire.EventCommit, wire.EventPurge, EventHeartbeat:
			at.index = max(at.index, e.Index)
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

// eventReader reads server-sent events (WHATWG HTML section 9.2.6), as far as nodes make use of them.
type eventReader struct {
	lines *bufio.Reader
	alive func() // called for every line
}

// next returns the next event, or comment.
func (r *eventReader) next() (*RevocationEvent, error) {
	e := &RevocationEvent{}
	var data []byte
	var id uint64
	for {
		line, err := r.line()
		if err != nil {
			return nil, err
		}
		r.alive()
		if len(line) == 0 {
			break
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) {
		case "":
			e.Type = EventHeartbeat
		case "event":
			e.Type = string(value)
		case "data":
			data = bytes.Clone(value)
		case "id":
			if id, err = strconv.ParseUint(string(value), 10, 64); err != nil {
				return nil, fmt.Errorf("the stream has an index %.40q", value)
			}
		}
	}
	if data != nil {
		if err := json.Unmarshal(data, &e.RevocationEvent); err != nil {
			return nil, fmt.Errorf("the stream has an event %.64q that can't be read: %w", e.Type, err)
		}
	}
	if e.Type == EventHeartbeat {
		e.Index = id
	}
	return e, nil
}

// line returns the next line without its end. It is valid until the next call.
func (r *eventReader) line() ([]byte, error) {
	line, err := r.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		whole := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(whole) > maxEventLine {
				return nil, fmt.Errorf("the stream has a line of more than %d bytes", maxEventLine)
			}
			line, err = r.lines.ReadSlice('\n')
			whole = append(whole, line...)
		}
		line = whole
	}
	if errors.Is(err, io.EOF) {
		return nil, errStreamOver
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'}), nil
}
