package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDocumentIsFetchedOverTLS(t *testing.T) {
	s := startSite(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "deputy", r.UserAgent())
		assert.Equal(t, "application/json", r.Header.Get("Accept"))
		assert.Empty(t, r.Header.Get("Accept-Encoding"), "a compressed answer may be any size once it is unpacked")
		assert.Empty(t, r.Cookies())
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
		w.Header().Set("Content-Type", "application/jwk-set+json; charset=utf-8")
		w.Header().Set("Cache-Control", "max-age=77")
		_, _ = io.WriteString(w, `{"keys":[]}`)
	})
	c := clientOf(t, s)
	for range 3 {
		answer, err := c.GetJSON(t.Context(), s.URL+"/jwks")
		require.NoError(t, err)
		require.JSONEq(t, `{"keys":[]}`, string(answer.Body))
		require.Equal(t, "max-age=77", answer.Header.Get("Cache-Control"))
	}
	require.EqualValues(t, 1, s.connections.Load(), "connections are kept")
}

func TestUnallowedAddressIsNeverConnectedTo(t *testing.T) {
	s := startSite(t, answerJSON(`{}`))
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	dns := startNames(t)
	dns.lead("127.0.0.1", "::1") // what some resolvers make of the odd ones below; Go's looks them up nowhere
	c, err := New(Options{RootCAs: roots, Resolver: dns.resolver()})
	require.NoError(t, err)
	defer c.Close()
	port := s.Listener.Addr().(*net.TCPAddr).Port
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f000001", "0177.0.0.1",
		"0.0.0.0", "[::]", "[64:ff9b::7f00:1]",
	} {
		_, err := c.GetJSON(t.Context(), fmt.Sprintf("https://%s:%d/", host, port))
		requireKindOf(t, err, KindAddress, KindResolve)
	}
	_, err = c.GetJSON(t.Context(), s.URL)
	var refused *AddressError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "loopback", refused.Class)
	require.Zero(t, s.connections.Load())
}

func TestPlainHTTPNeedsLeaveOfItsOwn(t *testing.T) {
	s := httptest.NewServer(answerJSON(`{}`))
	t.Cleanup(s.Close)
	_, err := clientOf(t, nil).GetJSON(t.Context(), s.URL)
	requireKind(t, err, KindURL)
	elsewhere := func(o *Options) { o.AllowPlaintext = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }
	_, err = clientOf(t, nil, elsewhere).GetJSON(t.Context(), s.URL)
	requireKind(t, err, KindAddress)
	_, err = clientOf(t, nil, elsewhere).GetJSON(t.Context(), strings.Replace(s.URL, "127.0.0.1", "localhost", 1))
	requireKind(t, err, KindAddress)
	_, err = clientOf(t, nil, func(o *Options) { o.AllowPlaintext = loopback() }).GetJSON(t.Context(), s.URL)
	require.NoError(t, err)
}

func TestURLsThatAreNotSpokenTo(t *testing.T) {
	c := clientOf(t, nil)
	for raw, says := range map[string]string{
		"":                                  "https://",
		"/jwks":                             "https://",
		"issuer.example/jwks":               "https://",
		"ftp://issuer.example/":             "https://",
		"file:///etc/passwd":                "https://",
		"gopher://issuer.example":           "https://",
		"http://issuer.example/":            "plain http",
		"https:///jwks":                     "no host",
		"https:issuer.example":              "no host",
		"https://user:pw@issuer.example/":   "name or password",
		"https://issuer.example/#keys":      "fragment",
		"https://issuer.example/#":          "fragment",
		"https://issuer.example:0/":         "port",
		"https://issuer.example:65536/":     "port",
		"https://issuer.example:x/":         "not a valid URL",
		"https://issuer.example/\n":         "not a valid URL",
		"https://10.0.0.1/":                 "private",
		"https://[fd00:ec2::254]/":          "metadata",
		"https://169.254.169.254/latest":    "metadata",
		"https://[fe80::1%25eth0]/":         "link-local",
		"https://i.example/" + long(MaxURL): "longer",
	} {
		err := c.CheckURL(raw)
		require.ErrorContains(t, err, says, raw)
		_, err = c.GetJSON(t.Context(), raw)
		require.ErrorContains(t, err, says, raw)
		require.ErrorContains(t, c.Post(t.Context(), raw, nil, nil), says, raw)
	}
	for _, raw := range []string{"https://issuer.example", "HTTPS://issuer.example:8443/a?b=c", "https://127.0.0.1/", "https://8.8.8.8/"} {
		require.NoError(t, c.CheckURL(raw), raw)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	elsewhere := startSite(t, answerJSON(`{}`))
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := startSite(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/?token=secret", status)
		})
		c := clientOf(t, s)
		_, err := c.GetJSON(t.Context(), s.URL)
		e := requireKind(t, err, KindRedirect)
		require.Equal(t, status, e.Status)
		require.NotContains(t, err.Error(), "secret")
		requireKind(t, c.Post(t.Context(), s.URL, nil, []byte(`{}`)), KindRedirect)
	}
	require.Zero(t, elsewhere.connections.Load())
}

func TestAnswersThatAreNotTaken(t *testing.T) {
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, text)
				_ = conn.Close()
			}
		}
	}
	typed := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, body)
		}
	}
	const secret = "hunter2-and-more"
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		kind    Kind
	}{
		"html":                    {typed("text/html", secret), KindContentType},
		"no type":                 {typed("", secret), KindContentType},
		"a type that contains it": {typed("text/application/json", secret), KindContentType},
		"an error":                {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, 500) }, KindStatus},
		"nothing":                 {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, KindStatus},
		"a part":                  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206) }, KindStatus},
		"not HTTP":                {raw(secret + "\r\n\r\n"), KindProtocol},
		"a malformed header":      {raw("HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n"), KindProtocol},
		"a malformed status":      {raw("HTTP/1.1 " + secret + "\r\n\r\n"), KindProtocol},
		"silence":                 {raw(""), KindProtocol},
		"a body that breaks off":  {raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"), KindProtocol},
		"endless headers":         {raw("HTTP/1.1 200 OK\r\nX: " + long(64<<10) + "\r\n\r\n"), KindProtocol},
		"a body over the bound":   {typed("application/json", long(DefaultMaxBody+1)), KindTooLarge},
		"the same, in chunks": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 65 {
				_, _ = io.WriteString(w, long(1<<10))
				w.(http.Flusher).Flush()
			}
		}, KindTooLarge},
		"a body without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for err := error(nil); err == nil; {
				_, err = io.WriteString(w, long(1<<10))
			}
		}, KindTooLarge},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, secret)
		}, KindContentType},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, tc.handler)
			_, err := clientOf(t, s).GetJSON(t.Context(), s.URL+"/"+secret)
			requireKind(t, err, tc.kind)
			require.NotContains(t, err.Error(), "hunter2", "what the other side sent, and the path, stay out of errors")
		})
	}
	t.Run("exactly at the bound", func(t *testing.T) {
		s := startSite(t, typed("application/json", long(DefaultMaxBody)))
		answer, err := clientOf(t, s).GetJSON(t.Context(), s.URL)
		require.NoError(t, err)
		require.Len(t, answer.Body, DefaultMaxBody)
	})
}

func TestSlowAnswerEndsWithTheTimeout(t *testing.T) {
	const timeout = 200 * time.Millisecond
	trickle := func(before string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, err = io.WriteString(conn, before)
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for err == nil {
				<-tick.C
				_, err = io.WriteString(conn, " ")
			}
		}
	}
	for name, before := range map[string]string{
		"headers": "HTTP/1.1 200 OK\r\nX: ",
		"body":    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n",
		"chunks":  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, trickle(before))
			began := time.Now()
			_, err := clientOf(t, s, func(o *Options) { o.Timeout = timeout }).GetJSON(t.Context(), s.URL)
			requireKind(t, err, KindTimeout)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(began), 20*timeout)
		})
	}
	t.Run("a handshake that never ends", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		_, err = clientOf(t, nil, func(o *Options) { o.Timeout = timeout }).GetJSON(t.Context(), "https://"+listener.Addr().String())
		requireKind(t, err, KindTimeout)
	})
	t.Run("a caller who gives up", func(t *testing.T) {
		asked := make(chan struct{})
		s := startSite(t, func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // an answer could still overtake the end of the connection
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		_, err := clientOf(t, s).GetJSON(ctx, s.URL)
		requireKind(t, err, KindCanceled)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("a client that is closed", func(t *testing.T) {
		asked := make(chan struct{})
		s := startSite(t, func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // an answer could still overtake the end of the connection
		})
		c := clientOf(t, s)
		go func() {
			<-asked
			c.Close()
		}()
		_, err := c.GetJSON(t.Context(), s.URL)
		requireKind(t, err, KindCanceled)
		_, err = c.GetJSON(t.Context(), s.URL)
		requireKind(t, err, KindCanceled)
	})
}

func TestOnlyTrustedTLSIsSpoken(t *testing.T) {
	t.Run("an unknown certificate", func(t *testing.T) {
		s := startSite(t, answerJSON(`{}`))
		_, err := clientOf(t, nil).GetJSON(t.Context(), s.URL)
		requireKind(t, err, KindTLS)
		var verification *tls.CertificateVerificationError
		require.ErrorAs(t, err, &verification)
	})
	t.Run("a certificate for another name", func(t *testing.T) {
		s := startSite(t, answerJSON(`{}`))
		_, err := clientOf(t, s).GetJSON(t.Context(), strings.Replace(s.URL, "127.0.0.1", "127.0.0.3", 1))
		if e := requireKindOf(t, err, KindTLS, KindConnect); e.Kind == KindConnect {
			t.Skip("this system has no more than one loopback address")
		}
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		s := startSite(t, answerJSON(`{}`), func(s *httptest.Server) {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // to be refused
		})
		_, err := clientOf(t, s).GetJSON(t.Context(), s.URL)
		requireKind(t, err, KindTLS)
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		s := startSite(t, answerJSON(`{}`), func(s *httptest.Server) {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
		})
		_, err := clientOf(t, s).GetJSON(t.Context(), s.URL)
		require.NoError(t, err)
	})
	t.Run("no TLS", func(t *testing.T) {
		s := httptest.NewServer(answerJSON(`{}`))
		t.Cleanup(s.Close)
		_, err := clientOf(t, nil).GetJSON(t.Context(), strings.Replace(s.URL, "http:", "https:", 1))
		requireKind(t, err, KindTLS)
		require.ErrorContains(t, err, "does not speak TLS")
	})
	t.Run("nobody there", func(t *testing.T) {
		s := startSite(t, answerJSON(`{}`))
		s.Close()
		_, err := clientOf(t, s).GetJSON(t.Context(), s.URL)
		requireKind(t, err, KindConnect)
	})
}

func TestPostSendsOnceAndReadsNoMoreThanItMust(t *testing.T) {
	var bodies []string
	s := startSite(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, r.Header.Get("X-Sink")+string(body))
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, long(1<<20))
	})
	c := clientOf(t, s)
	header := http.Header{"X-Sink": {"one:"}}
	require.NoError(t, c.Post(t.Context(), s.URL, header, []byte(`{"a":1}`)))
	require.Equal(t, []string{`one:{"a":1}`}, bodies)
	require.Len(t, header, 1, "the caller's header is left alone")
	requireKind(t, c.Post(t.Context(), s.URL, nil, make([]byte, MaxPost+1)), KindTooLarge)
	require.Len(t, bodies, 1)
}

func TestRetryAfterIsHandedOn(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"120":                           2 * time.Minute,
		"999999":                        maxRetryAfter,
		"-5":                            0,
		"soon":                          0,
		"Sat, 28 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Sat, 28 Nov 2026 11:00:00 GMT": 0,
		"Fri, 31 Dec 9999 23:59:59 GMT": maxRetryAfter,
	} {
		s := startSite(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		_, err := clientOf(t, s, func(o *Options) { o.Clock = func() time.Time { return now } }).GetJSON(t.Context(), s.URL)
		require.Equal(t, want, requireKind(t, err, KindStatus).RetryAfter, value)
	}
}

func requireKindOf(t *testing.T, err error, kinds ...Kind) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, kinds, e.Kind, "%v", err)
	return e
}

func long(n int) string { return strings.Repeat("x", n) }
