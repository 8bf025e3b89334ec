package audit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// SyslogOptions set up a sink to a syslog receiver.
type SyslogOptions struct {
	Address    string      // host:port
	TLS        *tls.Config // nil: plain TCP; else RFC 5425
	Hostname   string      // the machine's
	App        string      // "deputy"
	Facility   int         // 13: log audit
	Enterprise int         // 32473: the private enterprise number in the name of the structured data
	// Dial opens the TCP connection; nil: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Facts of syslog.
const (
	facilityAudit     = 13    // RFC 5424 table 1: log audit
	documentationPEN  = 32473 // RFC 5612; who has a number of their own sets that
	severityWarning   = 4
	severityNotice    = 5
	severityInfo      = 6
	defaultApp        = "deputy"
	dialTimeout       = 10 * time.Second
	maxSyslogHeader   = 255
	maxSyslogApp      = 48
	maxFacility       = 23
	unconfirmedBytes  = 8 << 20          // more than a receiver's socket holds unread
	unconfirmedFor    = 60 * time.Second // what a live connection took so long ago was read
	maxUnconfirmed    = 1 << 16          // entries
	syslogTimestamp   = "2006-01-02T15:04:05.000Z07:00"
	closeConfirmation = time.Second
)

// SyslogSink sends records as RFC 5424 messages over TCP with octet counting (RFC 6587 section 3.4.1) or over TLS (RFC
// 5425). The message is the line of the log; node, number, hash and hash of the record before stand in the structured
// data as well.
//
// Syslog over TCP acknowledges nothing: what was written may still lie unread in the receiver's socket, and is gone
// when that dies. So a record counts as arrived only once the connection has lived on for a minute, or 8 MiB have
// followed it, or the receiver has closed the connection in answer to our end of it. After a broken connection the
// rest is sent again. The receiver can tell by node and number what it has already.
type SyslogSink struct {
	options   SyslogOptions
	conn      net.Conn
	ended     *ending // of conn
	buffer    []byte
	message   []byte
	confirmed uint64

	sent        []sentBatch // not confirmed, oldest first
	unconfirmed int         // their bytes
}

// ending says that the receiver has ended a connection.
type ending struct {
	done  chan struct{} // closed then
	clean bool          // by closing its side, after having read what there was
}

type sentBatch struct {
	last  uint64
	bytes int
	at    time.Time
}

// NewSyslogSink makes a sink. It dials with the first record.
func NewSyslogSink(o SyslogOptions) (*SyslogSink, error) {
	setDefault(&o.App, defaultApp)
	setDefault(&o.Facility, facilityAudit)
	setDefault(&o.Enterprise, documentationPEN)
	if o.Hostname == "" {
		o.Hostname, _ = os.Hostname() // "-" where there is none, as the RFC has it
		setDefault(&o.Hostname, "-")
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	}
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return nil, fmt.Errorf("the address of a syslog receiver is %q; it must be host:port, such as siem.example.com:6514", o.Address)
	}
	switch {
	case !printable(o.Hostname, maxSyslogHeader):
		return nil, fmt.Errorf("the host name %q for syslog must have 1 to %d visible characters", o.Hostname, maxSyslogHeader)
	case !printable(o.App, maxSyslogApp):
		return nil, fmt.Errorf("the app name %q for syslog must have 1 to %d visible characters", o.App, maxSyslogApp)
	case o.Facility < 0 || o.Facility > maxFacility:
		return nil, fmt.Errorf("the syslog facility is %d; it must be between 0 and %d", o.Facility, maxFacility)
	case o.Enterprise < 1:
		return nil, fmt.Errorf("the private enterprise number is %d; it must be positive", o.Enterprise)
	}
	if o.TLS != nil && o.TLS.ServerName == "" && !o.TLS.InsecureSkipVerify {
		host, _, _ := net.SplitHostPort(o.Address) // it was split before
		o.TLS = o.TLS.Clone()
		o.TLS.ServerName = host
	}
	return &SyslogSink{options: o}, nil
}

// printable holds text to PRINTUSASCII of RFC 5424 section 6.
func printable(s string, most int) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 33 || s[i] > 126 {
			return false
		}
	}
	return s != "" && len(s) <= most
}

// Deliver implements Sink.
func (s *SyslogSink) Deliver(ctx context.Context, lines []Line) error {
	if err := s.connect(ctx); err != nil {
		return fmt.Errorf("sending audit records to syslog at %s: %w", s.options.Address, err)
	}
	s.buffer = s.buffer[:0]
	for i := range lines {
		s.message = s.appendMessage(s.message[:0], &lines[i])
		s.buffer = strconv.AppendInt(s.buffer, int64(len(s.message)), 10)
		s.buffer = append(append(s.buffer, ' '), s.message...)
	}
	if err := s.write(ctx); err != nil {
		s.drop()
		return fmt.Errorf("sending audit records to syslog at %s: %w", s.options.Address, err)
	}
	if len(s.sent) >= maxUnconfirmed {
		s.confirm(s.sent[0])
	}
	s.sent = append(s.sent, sentBatch{last: lines[len(lines)-1].Sequence, bytes: len(s.buffer), at: time.Now()})
	s.unconfirmed += len(s.buffer)
	return nil
}

func (s *SyslogSink) write(ctx context.Context) error {
	deadline, _ := ctx.Deadline() // none: the zero time, which is none as well
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := s.conn.Write(s.buffer)
	return err
}

// connect opens a connection where there is none, or none that the receiver still holds.
func (s *SyslogSink) connect(ctx context.Context) error {
	if s.conn != nil {
		select {
		case <-s.ended.done:
			again := len(s.sent) > 0
			s.drop()
			if again {
				return errors.New("the receiver has closed the connection; what it may not have read is sent again")
			}
		default:
			return nil
		}
	}
	conn, err := s.options.Dial(ctx, "tcp", s.options.Address)
	if err != nil {
		return err
	}
	if s.options.TLS != nil {
		secure := tls.Client(conn, s.options.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return errors.Join(err, conn.Close())
		}
		conn = secure
	}
	s.conn, s.ended = conn, &ending{done: make(chan struct{})}
	go s.ended.watch(conn)
	return nil
}

// watch notices that the receiver ends the connection. A receiver says nothing otherwise.
func (e *ending) watch(conn net.Conn) {
	_, err := io.Copy(io.Discard, conn)
	e.clean = err == nil
	close(e.done)
}

// drop gives a connection up. What isn't confirmed will be sent again.
func (s *SyslogSink) drop() {
	_ = s.conn.Close() // it is of no use either way
	<-s.ended.done
	s.conn, s.sent, s.unconfirmed = nil, nil, 0
}

// Confirmed implements Sink.
func (s *SyslogSink) Confirmed() uint64 {
	if s.conn == nil {
		return s.confirmed
	}
	select {
	case <-s.ended.done: // nothing more is certain
		return s.confirmed
	default:
	}
	for len(s.sent) > 0 {
		oldest := s.sent[0]
		if s.unconfirmed-oldest.bytes < unconfirmedBytes && time.Since(oldest.at) < unconfirmedFor {
			break
		}
		s.confirm(oldest)
	}
	return s.confirmed
}

func (s *SyslogSink) confirm(oldest sentBatch) {
	s.confirmed = oldest.last
	s.unconfirmed -= oldest.bytes
	s.sent = s.sent[1:]
}

// Close implements Sink. A receiver that reads to the end and then closes its side has got everything.
func (s *SyslogSink) Close(ctx context.Context) error {
	if s.conn == nil {
		return nil
	}
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		s.drop()
		return nil
	}
	timer := time.NewTimer(closeConfirmation)
	defer timer.Stop()
	select {
	case <-s.ended.done:
		if s.ended.clean && len(s.sent) > 0 {
			s.confirmed = s.sent[len(s.sent)-1].last
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	s.drop()
	return nil
}

// appendMessage appends one message of RFC 5424. The text has no byte order mark (it is MSG-ANY): receivers that look
// for JSON want the brace first.
func (s *SyslogSink) appendMessage(dst []byte, l *Line) []byte {
	severity := severityInfo
	switch {
	case l.Denied:
		severity = severityNotice
	case l.Kind == KindDropped || l.Kind == KindResumed || l.Kind == KindRecovered:
		severity = severityWarning
	}
	dst = append(strconv.AppendInt(append(dst, '<'), int64(s.options.Facility*8+severity), 10), ">1 "...)
	dst = l.Time.Time().AppendFormat(dst, syslogTimestamp)
	dst = append(append(append(dst, ' '), s.options.Hostname...), ' ')
	dst = append(append(dst, s.options.App...), ' ')
	dst = append(strconv.AppendInt(dst, int64(os.Getpid()), 10), ' ')
	dst = append(append(dst, l.Kind...), " [deputy@"...)
	dst = strconv.AppendInt(dst, int64(s.options.Enterprise), 10)
	// A node's name, digits and hashes hold nothing that a parameter's value would have to escape.
	dst = append(append(append(dst, ` node="`...), l.Node...), '"')
	dst = append(strconv.AppendUint(append(dst, ` seq="`...), l.Sequence, 10), '"')
	dst = append(appendHash(append(dst, ` prev="`...), &l.Prev), '"')
	dst = append(appendHash(append(dst, ` hash="`...), &l.Hash), `"] `...)
	return append(dst, l.JSON...)
}
