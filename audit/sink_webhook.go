package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// PostFunc sends a body of type application/json to a webhook, signed so that the receiver can tell that it is from
// here, and returns nil once that has answered 2xx. The id names the delivery: it is the same each time the same
// records are sent, and has letters, digits and _ only. Which addresses may be dialled is for it to say.
type PostFunc func(ctx context.Context, id string, body []byte) error

// maxPost is the longest body, in bytes. A batch that is longer goes in several.
const maxPost = 1 << 20

// WebhookSink posts batches of records as
//
//	{"node":"n1","first":12,"last":13,"records":[…,…]}
//
// with each record as its line stands in the log.
type WebhookSink struct {
	post      PostFunc
	body      []byte
	confirmed uint64
}

// NewWebhookSink makes a sink.
func NewWebhookSink(post PostFunc) (*WebhookSink, error) {
	if post == nil {
		return nil, errors.New("a webhook has nothing to post with")
	}
	return &WebhookSink{post: post}, nil
}

// Deliver implements Sink.
func (s *WebhookSink) Deliver(ctx context.Context, lines []Line) error {
	for len(lines) > 0 {
		n := s.compose(lines)
		last := &lines[n-1]
		// The hash of the last record stands for all before it, so together with the first it names what is sent.
		id := fmt.Sprintf("aud_%d_%.32s", lines[0].Sequence, last.Hash)
		if err := s.post(ctx, id, s.body); err != nil {
			return fmt.Errorf("posting audit records: %w", err)
		}
		s.confirmed = last.Sequence
		lines = lines[n:]
	}
	return nil
}

// compose puts as many records into the body as fit, and one at least. It returns how many.
func (s *WebhookSink) compose(lines []Line) (n int) {
	const envelope = 256
	size := envelope
	for n < len(lines) && (n == 0 || size+len(lines[n].JSON)+1 <= maxPost) {
		size += len(lines[n].JSON) + 1
		n++
	}
	b := append(s.body[:0], `{"node":`...)
	b = appendQuoted(b, lines[0].Node)
	b = strconv.AppendUint(append(b, `,"first":`...), lines[0].Sequence, 10)
	b = strconv.AppendUint(append(b, `,"last":`...), lines[n-1].Sequence, 10)
	b = append(b, `,"records":[`...)
	for i := range lines[:n] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, lines[i].JSON...)
	}
	s.body = append(b, "]}"...)
	return n
}

// Confirmed implements Sink.
func (s *WebhookSink) Confirmed() uint64 { return s.confirmed }

// Close implements Sink.
func (s *WebhookSink) Close(context.Context) error { return nil }
