package audit

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// message5424 is RFC 5424 section 6, with the one element of structured data that is ours.
var message5424 = regexp.MustCompile(`^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) ([!-~]{1,48}) (\d{1,128}) ([!-~]{1,32}) ` +
	`\[deputy@32473 node="([^"\]\\]+)" seq="(\d+)" prev="([0-9a-f]{64})" hash="([0-9a-f]{64})"\] (\{.*\})$`)

// receiver is a syslog receiver on loopback.
type receiver struct {
	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn
	deaf     bool // reads nothing
	entries  []Entry
	priority []string
	broken   []error
	group    sync.WaitGroup
}

func newReceiver(t testing.TB, config *tls.Config) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	r := &receiver{listener: listener}
	r.group.Go(r.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		r.hangUp()
		r.group.Wait()
	})
	return r
}

func (r *receiver) address() string { return r.listener.Addr().String() }

func (r *receiver) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns = append(r.conns, conn)
		deaf := r.deaf
		r.mu.Unlock()
		if !deaf {
			r.group.Go(func() { r.serve(conn) })
		}
	}
}

func (r *receiver) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // read only
	in := bufio.NewReader(conn)
	for {
		message, err := readCounted(in)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				r.mu.Lock()
				r.broken = append(r.broken, err)
				r.mu.Unlock()
			}
			return
		}
		parts := message5424.FindStringSubmatch(message)
		r.mu.Lock()
		if parts == nil {
			r.broken = append(r.broken, fmt.Errorf("not RFC 5424: %s", message))
		} else if e, err := ParseEntry([]byte(parts[11])); err != nil {
			r.broken = append(r.broken, err)
		} else {
			if parts[2] != string(appendInstant(nil, e.Time)) || parts[6] != string(e.Kind) || parts[7] != e.Node ||
				parts[8] != strconv.FormatUint(e.Sequence, 10) || parts[9] != e.Prev.String() || parts[10] != e.Hash.String() {
				r.broken = append(r.broken, fmt.Errorf("header and record disagree: %s", message))
			}
			r.entries, r.priority = append(r.entries, e), append(r.priority, parts[1])
		}
		r.mu.Unlock()
	}
}

// readCounted reads one frame of RFC 6587 section 3.4.1.
func readCounted(in *bufio.Reader) (string, error) {
	digits, err := in.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(digits, " "))
	if err != nil || n < 1 || n > 4<<20 {
		return "", fmt.Errorf("frame of %q bytes", digits)
	}
	message := make([]byte, n)
	_, err = io.ReadFull(in, message)
	return string(message), err
}

func (r *receiver) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

// hear has it read from connections to come, or not.
func (r *receiver) hear(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = !on
}

func (r *receiver) sequences() (all []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		all = append(all, e.Sequence)
	}
	return all
}

func (r *receiver) requireSound(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(t, r.broken)
}

func syslogTo(t testing.TB, o SyslogOptions) Sink {
	t.Helper()
	s, err := NewSyslogSink(o)
	require.NoError(t, err)
	return s
}

func TestSyslogCarriesTheChain(t *testing.T) {
	r := newReceiver(t, nil)
	o := testOptions(t.TempDir())
	o.Sinks = []SinkOptions{{Name: "siem", Sink: syslogTo(t, SyslogOptions{Address: r.address(), Hostname: "host-1"}), Linger: time.Millisecond}}
	l := openLog(t, o)
	require.NoError(t, l.note(t.Context(), appendDroppedBody(nil, 1_800_000_000_000, &drops{count: 7, since: time.Now(), till: time.Now()})))
	appendAll(t, l, 0, 30)
	closeLog(t, l)
	last, _ := l.Last()
	require.EqualValues(t, last, l.Sinks()[0].Confirmed, "a receiver that closes in answer has got everything")
	eventually(t, "all of it", func() bool { return len(r.sequences()) == int(last) })
	r.requireSound(t)
	for i, e := range r.entries {
		require.EqualValues(t, i+1, e.Sequence)
		want := 13*8 + 6
		switch {
		case e.Decision == Denied:
			want = 13*8 + 5
		case e.Kind == KindDropped:
			want = 13*8 + 4
		}
		require.Equal(t, strconv.Itoa(want), r.priority[i])
	}
}

func TestSyslogOverTLSChecksTheReceiver(t *testing.T) {
	certificate, roots := selfSigned(t)
	r := newReceiver(t, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	o := testOptions(t.TempDir())
	o.Sinks = []SinkOptions{
		{Name: "siem", Sink: syslogTo(t, SyslogOptions{Address: r.address(), TLS: &tls.Config{RootCAs: roots}}), Linger: time.Millisecond},
		{Name: "stranger", Sink: syslogTo(t, SyslogOptions{Address: r.address(), TLS: &tls.Config{}})},
	}
	l := openLog(t, o)
	appendAll(t, l, 0, 30)
	eventually(t, "the stranger is refused", func() bool { return l.Sinks()[1].Err != nil })
	require.ErrorContains(t, l.Sinks()[1].Err, "certificate")
	eventually(t, "all of it", func() bool { return len(r.sequences()) >= 31 })
	closeLog(t, l)
	requireEach(t, r.sequences(), l.Sinks()[0].Confirmed)
	require.Zero(t, l.Sinks()[1].Confirmed)
}

func selfSigned(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "siem"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// What a receiver's kernel took is not what the receiver has read.
func TestSyslogSendsAgainWhatTheReceiverMayNotHaveRead(t *testing.T) {
	r := newReceiver(t, nil)
	r.hear(false)
	o := testOptions(t.TempDir())
	o.Sinks = []SinkOptions{{Name: "siem", Sink: syslogTo(t, SyslogOptions{Address: r.address()}), Linger: time.Millisecond}}
	l := openLog(t, o)
	appendAll(t, l, 0, 30)
	eventually(t, "the kernel has all of it", func() bool { return l.Sinks()[0].Behind == 0 })
	require.Zero(t, l.Sinks()[0].Confirmed)
	r.hear(true)
	r.hangUp()
	appendAll(t, l, 30, 31)
	eventually(t, "all of it again", func() bool { return len(r.sequences()) >= 32 })
	closeLog(t, l)
	last, _ := l.Last()
	eventually(t, "to the end", func() bool { all := r.sequences(); return all[len(all)-1] == last })
	requireEach(t, r.sequences(), last)
	r.requireSound(t)
}

func TestSyslogConfirmsWhatALiveConnectionTookLongAgo(t *testing.T) {
	r := newReceiver(t, nil)
	sink, err := NewSyslogSink(SyslogOptions{Address: r.address()})
	require.NoError(t, err)
	send := func(n uint64, size int) {
		t.Helper()
		require.NoError(t, sink.Deliver(t.Context(), []Line{{Sequence: n, Kind: KindTool, Node: "n1", JSON: make([]byte, size)}}))
	}
	for n := range uint64(10) {
		send(n+1, 1<<20)
	}
	require.EqualValues(t, 2, sink.Confirmed(), "8 MiB are not certain")
	sink.sent[0].at = sink.sent[0].at.Add(-unconfirmedFor)
	require.EqualValues(t, 3, sink.Confirmed())
	r.hangUp()
	<-sink.ended.done
	require.EqualValues(t, 3, sink.Confirmed())
	require.ErrorContains(t, sink.Deliver(t.Context(), []Line{{Sequence: 11}}), "sent again")
	require.NoError(t, sink.Close(t.Context()))
	require.EqualValues(t, 3, sink.Confirmed())
}

func TestSyslogOptionsAreChecked(t *testing.T) {
	for says, o := range map[string]SyslogOptions{
		"host:port":         {Address: "siem.example.com"},
		"host name":         {Address: "a:1", Hostname: "my host"},
		"app name":          {Address: "a:1", App: strings.Repeat("x", 49)},
		"facility is 24":    {Address: "a:1", Facility: 24},
		"enterprise number": {Address: "a:1", Enterprise: -1},
	} {
		_, err := NewSyslogSink(o)
		require.ErrorContains(t, err, says)
	}
	refused, err := NewSyslogSink(SyslogOptions{Address: "a:1", Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }})
	require.NoError(t, err)
	require.ErrorContains(t, refused.Deliver(t.Context(), []Line{{}}), "no route")
	require.NoError(t, refused.Close(t.Context()))
}
