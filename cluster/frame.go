package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// One frame is a length and that many bytes. Numbers are big-endian.
//
//	request:  length uint32 · id uint64 · timeout uint32 (milliseconds) · n uint8 · method [n]byte · body
//	response: length uint32 · id uint64 · status uint8 · body, or the text of the error
//
// The deadline travels as a duration: the two clocks need not agree.
const (
	lengthSize      = 4
	requestHeader   = 8 + 4 + 1
	responseHeader  = 8 + 1
	maxRequestSize  = requestHeader + MaxMethodLength + MaxBody
	maxResponseSize = responseHeader + MaxBody
	maxErrorText    = 4 << 10
)

type request struct {
	id      uint64
	timeout time.Duration
	method  string
	body    []byte
}

type response struct {
	id     uint64
	status status
	body   []byte
}

var errMalformed = errors.New("malformed frame")

func appendRequest(dst []byte, r request) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(requestHeader+len(r.method)+len(r.body)))
	dst = binary.BigEndian.AppendUint64(dst, r.id)
	dst = binary.BigEndian.AppendUint32(dst, uint32(min(max(r.timeout.Milliseconds(), 1), math.MaxUint32)))
	dst = append(dst, byte(len(r.method)))
	dst = append(dst, r.method...)
	return append(dst, r.body...)
}

func parseRequest(frame []byte) (request, error) {
	if len(frame) < requestHeader {
		return request{}, fmt.Errorf("%w: a request of %d bytes", errMalformed, len(frame))
	}
	r := request{
		id:      binary.BigEndian.Uint64(frame),
		timeout: time.Duration(binary.BigEndian.Uint32(frame[8:])) * time.Millisecond,
	}
	n := int(frame[12])
	rest := frame[requestHeader:]
	if n == 0 || n > MaxMethodLength || n > len(rest) || len(rest)-n > MaxBody {
		return request{}, fmt.Errorf("%w: a method of %d bytes in a request of %d", errMalformed, n, len(frame))
	}
	r.method, r.body = string(rest[:n]), rest[n:]
	return r, nil
}

func appendResponse(dst []byte, r response) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(responseHeader+len(r.body)))
	dst = binary.BigEndian.AppendUint64(dst, r.id)
	dst = append(dst, byte(r.status))
	return append(dst, r.body...)
}

func parseResponse(frame []byte) (response, error) {
	if len(frame) < responseHeader {
		return response{}, fmt.Errorf("%w: a response of %d bytes", errMalformed, len(frame))
	}
	return response{
		id:     binary.BigEndian.Uint64(frame),
		status: status(frame[8]),
		body:   frame[responseHeader:],
	}, nil
}

// failure is the answer that carries an error.
func failure(id uint64, err error) response {
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	return response{id: id, status: statusOf(err), body: []byte(text)}
}

// readFrame reads one frame of at most limit bytes. Memory is only taken as the bytes arrive, so a length that
// promises much and delivers nothing costs nothing.
func readFrame(r io.Reader, limit uint32) ([]byte, error) {
	var header [lengthSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length > limit {
		return nil, fmt.Errorf("%w: %d bytes; at most %d are allowed", errMalformed, length, limit)
	}
	const step = 64 << 10
	frame := make([]byte, 0, min(length, step))
	for remaining := int(length); remaining > 0; {
		n := min(remaining, step)
		start := len(frame)
		frame = append(frame, make([]byte, n)...)
		if _, err := io.ReadFull(r, frame[start:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		remaining -= n
	}
	return frame, nil
}
