package outbound

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// far is a source of documents in virtual time, where there are no sockets.
type far struct {
	mu      sync.Mutex
	answers map[string]func(ctx context.Context) (*Response, error)
	asked   map[string][]time.Time
}

func newFar() *far {
	return &far{answers: make(map[string]func(context.Context) (*Response, error)), asked: make(map[string][]time.Time)}
}

func (f *far) CheckURL(string) error { return nil }

func (f *far) GetJSON(ctx context.Context, url string) (*Response, error) {
	f.mu.Lock()
	f.asked[url] = append(f.asked[url], time.Now())
	answer := f.answers[url]
	f.mu.Unlock()
	if answer == nil {
		return nil, &Error{Kind: KindConnect, Host: hostOf(url)}
	}
	return answer(ctx)
}

func (f *far) set(url string, answer func(context.Context) (*Response, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[url] = answer
}

// serve has a URL answer with a text, and say for how many seconds it is good.
func (f *far) serve(url, body, maxAge string) {
	f.set(url, func(context.Context) (*Response, error) {
		return &Response{Header: map[string][]string{"Cache-Control": {"max-age=" + maxAge}}, Body: []byte(body)}, nil
	})
}

func (f *far) fail(url string, err error) {
	f.set(url, func(context.Context) (*Response, error) { return nil, err })
}

// hang has a URL answer only when the client gives up.
func (f *far) hang(url string) {
	f.set(url, func(ctx context.Context) (*Response, error) {
		ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
		<-ctx.Done()
		return nil, &Error{Kind: KindTimeout, Host: hostOf(url), Err: ctx.Err()}
	})
}

func (f *far) times(url string) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.asked[url]...)
}

func (f *far) count(url string) int { return len(f.times(url)) }

func asText(body []byte) (string, error) { return string(body), nil }

// sourceOf makes a source without Run, whose fetches end with the test.
func sourceOf(t *testing.T, client Getter, changes ...func(*KeySourceOptions[string])) *KeySource[string] {
	t.Helper()
	o := KeySourceOptions[string]{
		Client: client, Parse: asText, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Jitter: func(time.Duration) time.Duration { return 0 },
	}
	for _, change := range changes {
		change(&o)
	}
	k, err := NewKeySource(o)
	require.NoError(t, err)
	return k
}

// running is sourceOf with Run, which ends when stop is called, or with the test.
func running(t *testing.T, client Getter, changes ...func(*KeySourceOptions[string])) (k *KeySource[string], stop func()) {
	t.Helper()
	k = sourceOf(t, client, changes...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return k, stop
}

func requireText(t *testing.T, want string, k *KeySource[string], s Source) Document[string] {
	t.Helper()
	doc, err := k.Get(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, want, doc.Value)
	require.Equal(t, want, string(doc.Raw))
	return doc
}
