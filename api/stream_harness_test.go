package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

const (
	streamPath = "/api/v1/revocations/stream"
	leasePath  = "/api/v1/revocations/lease"
)

// sent is one event as it came, or a comment.
type sent struct {
	name    string
	id      uint64 // 0: it has none
	data    wire.RevocationEvent
	comment bool
}

// readEvents reads server-sent events as WHATWG HTML section 9.2.6 has it until the stream ends.
func readEvents(stream io.Reader, check func(data []byte) error, each func(sent)) error {
	lines := bufio.NewReader(stream)
	var e sent
	var data []byte
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF && line == "" {
			return nil
		}
		if err != nil {
			return err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "":
			if value != "" { // ": heartbeat"
				e.comment = true
				continue
			}
			if data != nil {
				if err := check(data); err != nil {
					return err
				}
				d := json.NewDecoder(bytes.NewReader(data))
				d.DisallowUnknownFields()
				if err := d.Decode(&e.data); err != nil {
					return fmt.Errorf("%s: %w", data, err)
				}
			}
			each(e)
			e, data = sent{}, nil
		case "event":
			e.name = value
		case "id":
			if e.id, err = strconv.ParseUint(value, 10, 64); err != nil {
				return err
			}
		case "data":
			data = []byte(value)
		default:
			return fmt.Errorf("a line %q", line)
		}
	}
}

// follower is a client of the stream that keeps what a validator would.
type follower struct {
	t      testing.TB
	cancel context.CancelFunc
	done   chan struct{}
	broken error // how the stream ended; valid once done is closed

	mu     sync.Mutex
	events []sent
	have   map[identity.Handle]wire.RevokedHandle
	index  uint64 // that it would go on from
	moved  chan struct{}
}

// follow opens a stream, whose events are held to the OpenAPI document, and reads it until the test ends.
func (n *node) follow(query string, options ...option) *follower {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://deputy.test"+streamPath+query, nil)
	require.NoError(n.t, err)
	request.Header.Set("Authorization", "SSWS "+n.root)
	for _, change := range options {
		change(request)
	}
	response, err := n.client.Do(request)
	require.NoError(n.t, err)
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		require.Equal(n.t, http.StatusOK, response.StatusCode, "%s", text)
	}
	require.Equal(n.t, mediaEvents, response.Header.Get("Content-Type"))
	require.Equal(n.t, "no-store", response.Header.Get("Cache-Control"))
	f := &follower{t: n.t, cancel: cancel, done: make(chan struct{}), have: map[identity.Handle]wire.RevokedHandle{}, moved: make(chan struct{})}
	route, params, err := n.document.router.FindRoute(request)
	require.NoError(n.t, err)
	require.NoError(n.t, openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: params, Route: route},
		Status:                 response.StatusCode, Header: response.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}))
	schema := route.Spec.Components.Schemas["RevocationEvent"].Value
	check := func(data []byte) error {
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			return err
		}
		return schema.VisitJSON(v)
	}
	go func() {
		defer close(f.done)
		defer response.Body.Close()
		f.broken = readEvents(response.Body, check, f.take)
	}()
	n.t.Cleanup(func() {
		cancel()
		<-f.done
	})
	return f
}

func (f *follower) take(e sent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
	for _, h := range e.data.Entries {
		if old, ok := f.have[h.Handle]; !ok || old.Provisional {
			f.have[h.Handle] = h
		}
	}
	f.index = max(f.index, e.id)
	close(f.moved)
	f.moved = make(chan struct{})
}

// await waits until what the follower has is as the test wants it.
func (f *follower) await(what string, holds func() bool) {
	f.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		f.mu.Lock()
		ok, moved := holds(), f.moved
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-moved:
		case <-f.done:
			f.mu.Lock()
			defer f.mu.Unlock()
			if !holds() {
				require.FailNow(f.t, "the stream ended before "+what, "%v, %v", f.broken, f.last())
			}
			return
		case <-deadline:
			require.FailNow(f.t, "waiting for "+what)
		}
	}
}

func (f *follower) last() sent {
	if len(f.events) == 0 {
		return sent{}
	}
	return f.events[len(f.events)-1]
}

func (f *follower) has(handles ...identity.Handle) func() bool {
	return func() bool {
		for _, h := range handles {
			if _, ok := f.have[h]; !ok {
				return false
			}
		}
		return true
	}
}

// synced waits for the end of the snapshot and returns its event.
func (f *follower) synced() sent {
	f.t.Helper()
	var e sent
	f.await("the end of the snapshot", func() bool {
		for i := range f.events {
			if f.events[i].name == wire.EventSynced {
				e = f.events[i]
			}
		}
		return e.name != ""
	})
	return e
}

// ends waits for the end of the stream and returns why the node hung up.
func (f *follower) ends() string {
	f.t.Helper()
	select {
	case <-f.done:
	case <-time.After(30 * time.Second):
		require.FailNow(f.t, "the stream goes on")
	}
	require.NoError(f.t, f.broken)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Equal(f.t, wire.EventEnd, f.last().name)
	require.NotEmpty(f.t, f.last().data.Detail)
	return f.last().data.Code
}

func (f *follower) named(name string) (found []sent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.name == name {
			found = append(found, e)
		}
	}
	return found
}

// revoke commits a revocation of handles, as nobody in particular.
func (g *group) revoke(t testing.TB, handles ...identity.Handle) uint64 {
	t.Helper()
	return g.setUp(t, revokeBody(handles)).Index
}

// deny puts a handle into a node's set ahead of the log.
func (n *node) deny(h identity.Handle) {
	n.journal.Deny(revocation.Entry{Handle: h, Expires: identity.InstantOf(n.group.time().Add(30 * time.Second)), Provisional: true})
}

// metric is the value of a series that has the label, or none.
func (n *node) metric(name, label string) float64 {
	n.t.Helper()
	families, err := n.registry.Gather()
	require.NoError(n.t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += l.GetValue()
			}
			if family.GetName() == name && labels == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	require.FailNow(n.t, "there is no series "+name+" "+label)
	return 0
}
