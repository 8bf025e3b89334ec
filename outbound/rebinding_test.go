package outbound

import (
	"context"
	"encoding/binary"
	"net"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// names is a DNS server on loopback that answers every question with the addresses it is told.
type names struct {
	conn net.PacketConn

	mu        sync.Mutex
	addresses []netip.Addr
	asked     int
}

func startNames(t *testing.T) *names {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &names{conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(n.answer(buffer[:size]), from)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return n
}

func (n *names) lead(addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses = nil
	for _, a := range addresses {
		n.addresses = append(n.addresses, netip.MustParseAddr(a))
	}
}

func (n *names) questions() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// answer repeats the question and appends the addresses of the family that was asked for (RFC 1035 §4).
func (n *names) answer(question []byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	end := 12
	for question[end] != 0 {
		end += 1 + int(question[end])
	}
	kind := binary.BigEndian.Uint16(question[end+1:])
	end += 5
	reply := append([]byte(nil), question[:end]...)
	binary.BigEndian.PutUint16(reply[2:], 0x8180) // an answer, recursion as asked
	count := uint16(0)
	for _, a := range n.addresses {
		if (kind == 1 && a.Is4()) || (kind == 28 && a.Is6()) {
			count++
			reply = append(reply, 0xc0, 12) // the name of the question
			reply = binary.BigEndian.AppendUint16(reply, kind)
			reply = append(reply, 0, 1, 0, 0, 0, 0, 0, byte(a.BitLen()/8)) // class IN, no time to live
			reply = append(reply, a.AsSlice()...)
		}
	}
	binary.BigEndian.PutUint16(reply[6:], count)
	binary.BigEndian.PutUint32(reply[8:], 0)
	return reply
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
}

func TestNameThatLeadsElsewhereLaterGainsNothing(t *testing.T) {
	dns := startNames(t)
	// Each request looks the name up anew.
	s := startSite(t, answerJSON(`{}`), func(s *httptest.Server) { s.Config.SetKeepAlivesEnabled(false) })
	port := s.Listener.Addr().(*net.TCPAddr).Port
	url := "https://example.com:" + strconv.Itoa(port) + "/jwks" // the name in the server's certificate
	c := clientOf(t, s, func(o *Options) {
		o.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		o.Resolver = dns.resolver()
	})

	dns.lead("127.0.0.1")
	require.NoError(t, c.CheckURL(url))
	_, err := c.GetJSON(t.Context(), url)
	require.NoError(t, err, "the name leads to what is allowed")

	for _, elsewhere := range []string{
		"127.0.0.2", "10.0.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "::1", "fd00:ec2::254", "fe80::1",
		"64:ff9b::a00:1", "2002:a00:1::1", "0.0.0.0",
	} {
		dns.lead(elsewhere)
		require.NoError(t, c.CheckURL(url), "nothing is wrong with the name")
		_, err = c.GetJSON(t.Context(), url)
		e := requireKind(t, err, KindAddress)
		var refused *AddressError
		require.ErrorAs(t, e, &refused)
		require.Equal(t, elsewhere, refused.Addr.String())
	}
	require.EqualValues(t, 1, s.connections.Load())

	dns.lead("10.0.0.1", "169.254.169.254", "127.0.0.1")
	_, err = c.GetJSON(t.Context(), url)
	require.NoError(t, err, "of several addresses those that are allowed do")

	dns.lead()
	_, err = c.GetJSON(t.Context(), url)
	requireKind(t, err, KindResolve)
}

func TestRefusedAddressSeesNoConnection(t *testing.T) {
	dns := startNames(t)
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("this system has no more than one loopback address: %v", err)
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		if conn, err := listener.Accept(); err == nil {
			_ = conn.Close()
			t.Error("the refused address was connected to")
		}
	}()
	c := clientOf(t, nil, func(o *Options) {
		o.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		o.Resolver = dns.resolver()
	})
	dns.lead("127.0.0.2")
	_, err = c.GetJSON(t.Context(), "https://example.com:"+strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	requireKind(t, err, KindAddress)
	require.NoError(t, listener.Close())
	<-accepted
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := startSite(t, answerJSON(`{"from":"the proxy"}`))
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	dns := startNames(t)
	dns.lead("127.0.0.1")
	s := startSite(t, answerJSON(`{"from":"the site"}`))
	c := clientOf(t, s, func(o *Options) { o.Resolver = dns.resolver() })
	answer, err := c.GetJSON(t.Context(), "https://example.com:"+strconv.Itoa(s.Listener.Addr().(*net.TCPAddr).Port))
	require.NoError(t, err)
	require.JSONEq(t, `{"from":"the site"}`, string(answer.Body))
	require.Zero(t, proxy.connections.Load())
	require.NotZero(t, dns.questions(), "the name was looked up here")
}
