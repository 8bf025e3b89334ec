package load

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnAnswerEndsWhereItsLengthSays(t *testing.T) {
	text := "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello"

	r, ok, err := parseHead([]byte(text))

	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 200, r.status)
	require.Equal(t, len(text), r.size)
	require.Equal(t, "hello", text[r.head:r.size])
	require.False(t, r.close)
}

func TestAnUnfinishedHeadIsWaitedFor(t *testing.T) {
	text := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	for n := range len(text) - 1 {
		_, ok, err := parseHead([]byte(text[:n]))
		require.NoError(t, err)
		require.False(t, ok, "after %d bytes", n)
	}
}

func TestAServerThatWillCloseIsNoticed(t *testing.T) {
	r, ok, err := parseHead([]byte("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 503, r.status)
	require.True(t, r.close)
}

func TestWhatIsNotReadableHTTPIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"other protocol":      "SSH-2.0-OpenSSH_9.6\r\n\r\n",
		"old version":         "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"no length":           "HTTP/1.1 200 OK\r\n\r\n",
		"chunked":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"length not a number": "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
		"empty length":        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
		"absurd length":       "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"too long":            "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n",
		"status not a number": "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
		"endless head":        "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", MaxResponseBytes),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseHead([]byte(text))
			require.ErrorIs(t, err, errResponse)
		})
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, ok, err := parseHead(text)
		if ok {
			require.NoError(t, err)
			require.LessOrEqual(t, r.head, len(text))
			require.GreaterOrEqual(t, r.size, r.head)
			require.LessOrEqual(t, r.size, MaxResponseBytes)
		}
	})
}
