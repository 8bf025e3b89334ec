package load

import (
	"bytes"
	"errors"
	"strconv"
)

// errResponse means that the peer doesn't speak the HTTP/1.1 that the generator reads: a status line and a
// Content-Length. Deputy and the ceilings answer nothing else.
var errResponse = errors.New("response is not HTTP/1.1 with a Content-Length")

// MaxResponseBytes bounds one answer, head and body. A token response has about a kilobyte.
const MaxResponseBytes = 64 << 10

var (
	headEnd       = []byte("\r\n\r\n")
	statusLine    = []byte("HTTP/1.1 ")
	contentLength = []byte("\r\nContent-Length: ") // as fasthttp and net/http spell it
	closing       = []byte("\r\nConnection: close")
)

// response is where one answer begins and ends in a connection's buffer.
type response struct {
	status int
	head   int // bytes of the head, with the empty line
	size   int // bytes in all
	close  bool
}

// parseHead reads the head of an answer. ok is false while bytes are missing. It reads what it needs and
// nothing else, so that the generator stays cheaper than the servers it measures.
func parseHead(buf []byte) (r response, ok bool, err error) {
	end := bytes.Index(buf, headEnd)
	if end < 0 {
		if len(buf) >= MaxResponseBytes {
			return r, false, errResponse
		}
		return r, false, nil
	}
	head := buf[:end+2]
	if len(head) < len("HTTP/1.1 200") || !bytes.HasPrefix(head, statusLine) {
		return r, false, errResponse
	}
	r.status, err = strconv.Atoi(string(head[9:12])) // does not allocate: the conversion doesn't escape
	if err != nil || r.status < 100 {
		return r, false, errResponse
	}
	i := bytes.Index(head, contentLength)
	if i < 0 {
		return r, false, errResponse
	}
	length := 0
	digits := head[i+len(contentLength):]
	for n, c := range digits {
		if c == '\r' && n > 0 {
			break
		}
		if c < '0' || c > '9' || length > MaxResponseBytes {
			return r, false, errResponse
		}
		length = length*10 + int(c-'0')
	}
	r.head = end + len(headEnd)
	r.size = r.head + length
	r.close = bytes.Contains(head, closing)
	if r.size > MaxResponseBytes {
		return r, false, errResponse
	}
	return r, true, nil
}
