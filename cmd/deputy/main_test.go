package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// asCommand in the environment makes the test binary be the deputy command, so that tests can start nodes as
// processes without building a binary.
const asCommand = "DEPUTY_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

var testNow = time.Date(2026, 4, 17, 8, 0, 0, 0, time.UTC)

// alone keeps the developer's own cluster and configuration out of a test.
func alone(t *testing.T) {
	t.Helper()
	for _, name := range []string{envAddress, envToken, envClientID, envClientSecret} {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
}

// outcome is what a command left behind.
type outcome struct {
	code     int
	out, err string
}

// deputy runs one command as main would, at a fixed time.
func deputy(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errOut bytes.Buffer
	a := &app{in: strings.NewReader(stdin), out: &out, err: &errOut, now: func() time.Time { return testNow }}
	code := a.run(t.Context(), args)
	return outcome{code, out.String(), errOut.String()}
}

// call is a request that a stand-in for a node got.
type call struct {
	method, path, query, body string
	header                    http.Header
}

// fakeNode answers by method and path, and keeps what it was asked.
type fakeNode struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

func newFakeNode(t *testing.T, answers map[string]http.HandlerFunc) *fakeNode {
	t.Helper()
	alone(t)
	n := &fakeNode{}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n.mu.Lock()
		n.calls = append(n.calls, call{r.Method, r.URL.Path, r.URL.RawQuery, string(body), r.Header.Clone()})
		n.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer, known := answers[r.Method+" "+r.URL.Path]
		if !known {
			problem(http.StatusNotFound, identity.CodeNotFound, "there is nothing at "+r.URL.Path, "")(w, r)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(n.Close)
	t.Setenv(envAddress, n.URL)
	t.Setenv(envToken, "dpt_test")
	return n
}

func (n *fakeNode) last(t *testing.T) call {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	require.NotEmpty(t, n.calls, "the node was not asked")
	return n.calls[len(n.calls)-1]
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func problem(status int, code identity.Code, detail, extra string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "req_7")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"type":"urn:deputy:problem:`+string(code)+`","title":"t","status":0,"detail":"`+detail+`"`+extra+`}`)
	}
}

// started runs a long command in the background and returns what ends it.
func started(t *testing.T, args ...string) (out *lockedBuffer, end func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out = &lockedBuffer{}
	a := &app{in: strings.NewReader(""), out: out, err: out, now: time.Now}
	code := make(chan int, 1)
	go func() { code <- a.run(ctx, args) }()
	var once sync.Once
	result := -1
	end = func() int {
		once.Do(func() {
			cancel()
			select {
			case result = <-code:
			case <-time.After(time.Minute):
				t.Errorf("deputy %v did not end; it said:\n%s", args, out)
			}
		})
		return result
	}
	t.Cleanup(func() { end() })
	return out, end
}

// lockedBuffer may be read while a command writes it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
