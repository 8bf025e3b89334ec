package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dialAs opens a connection with any key and protocol, pinning the member's own key.
func dialAs(t *testing.T, n *testNode, certificate tls.Certificate, protocol string) *tls.Conn {
	t.Helper()
	config := clientTLS(certificate, protocol, n.o.Key.Public())
	if protocol == "" {
		config.NextProtos, config.VerifyConnection = nil, nil
	}
	conn, err := dialTLS(t.Context(), n.ClusterAddr(), config)
	if err != nil {
		return nil // refused already
	}
	t.Cleanup(func() { _ = conn.NetConn().Close() })
	return conn
}

// requireDeaf fails if the other end says anything but goodbye.
func requireDeaf(t *testing.T, conn *tls.Conn, say []byte) {
	t.Helper()
	if conn == nil {
		return
	}
	_, _ = conn.Write(say)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := conn.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded, "the connection must be closed, not ignored")
}

func certificateOf(t *testing.T, key NodeKey) tls.Certificate {
	t.Helper()
	certificate, err := selfSigned("stranger", key)
	require.NoError(t, err)
	return certificate
}

func TestAnotherKeyGetsNowhere(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	echo := appendRequest(nil, request{id: 1, timeout: time.Second, method: "echo"})
	stranger := certificateOf(t, newKey(t))

	requireDeaf(t, dialAs(t, n, stranger, protocolRPC), echo)
	requireDeaf(t, dialAs(t, n, stranger, protocolRaft), []byte{3}) // TimeoutNow: "stand for election"
	requireDeaf(t, dialAs(t, n, stranger, ""), echo)
	requireDeaf(t, dialAs(t, n, stranger, "h2"), echo)
	eventually(t, func() bool { return counted(t, n.metrics.rejected.WithLabelValues(rejectedStranger)) == 2 })

	// On the join protocol the key is all that is proved: the handler asks for the secret.
	_, err := JoinCall(t.Context(), n.ClusterAddr(), n.o.Key.Public(), newKey(t), []byte(`{"Secret":"guess"}`))
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	require.Contains(t, remote.Message, "is wrong")
	// Nothing but a join may be asked there, also under a member's method name.
	requireDeaf(t, dialAs(t, n, stranger, protocolJoin), echo)
	require.Len(t, n.table.Members(), 1)
}

func TestAMembersCertificateWithoutItsKeyGetsNowhere(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	// The certificate is public; whoever presents it must also sign with its key.
	stolen := certificateOf(t, n.o.Key)
	stolen.PrivateKey = newKey(t).private
	requireDeaf(t, dialAs(t, n, stolen, protocolRPC), nil)
}

func TestOnlyOneEd25519CertificateIsAccepted(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	requireDeaf(t, dialAs(t, n, tls.Certificate{}, protocolJoin), nil)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	requireDeaf(t, dialAs(t, n, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, protocolJoin), nil)

	two := certificateOf(t, n.o.Key)
	two.Certificate = append(two.Certificate, two.Certificate[0])
	requireDeaf(t, dialAs(t, n, two, protocolRPC), nil)
}

func TestADialerInsistsOnTheMemberItMeans(t *testing.T) {
	t.Parallel()
	n1 := newCluster(t, inMemory)
	n2 := n1.join("n2", inMemory)
	_, err := n1.Call(t.Context(), "n2", "echo", nil)
	require.NoError(t, err)

	// The table says that n3 has another key, but n2's address: n2 is a member, and not the one that is meant.
	impostor := Member{ID: "n3", Key: newKey(t).Public(), ClusterAddr: n2.ClusterAddr()}
	n1.commit(tableCommand{Admit: &impostor})
	_, err = n1.Call(t.Context(), "n3", "echo", nil)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "another key")

	_, err = JoinCall(t.Context(), n1.ClusterAddr(), newKey(t).Public(), newKey(t), nil)
	require.ErrorIs(t, err, ErrUnreachable, "a joiner insists on the pin of its token")
}

func TestASilentStrangerIsCutOff(t *testing.T) {
	t.Parallel()
	n := newNode(t, "n1", inMemory)
	n.port.patience = 100 * time.Millisecond
	n.start()
	conn, err := net.Dial("tcp", n.ClusterAddr())
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // the other end has
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(handshakeTimeout)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestOneAddressCannotTakeAllHandshakes(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	for range MaxHandshakesIP {
		conn, err := net.Dial("tcp", n.ClusterAddr())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	eventually(t, func() bool { return len(n.port.handshakes) == MaxHandshakesIP })
	extra, err := net.Dial("tcp", n.ClusterAddr())
	require.NoError(t, err)
	defer extra.Close() //nolint:errcheck // the other end has
	require.NoError(t, extra.SetReadDeadline(time.Now().Add(handshakeTimeout)))
	_, err = extra.Read(make([]byte, 1))
	require.Error(t, err)
	require.Positive(t, counted(t, n.metrics.rejected.WithLabelValues(rejectedBusy)))
}

func TestAMemberHasABoundOnConnections(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	own := certificateOf(t, n.o.Key)
	n.port.conns.mu.Lock()
	n.port.conns.counts[string(n.o.Key.Public())] = MaxConnsPerPeer - 2
	n.port.conns.mu.Unlock()
	for range 5 {
		dialAs(t, n, own, protocolRPC)
	}
	eventually(t, func() bool { return counted(t, n.metrics.rejected.WithLabelValues(rejectedBusy)) == 3 })
	require.Equal(t, 2, n.port.conns.len())
}

func TestMalformedFramesEndTheConnection(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	own := certificateOf(t, n.o.Key)
	for name, say := range map[string][]byte{
		"a length over the bound": {0xff, 0xff, 0xff, 0xff},
		"a request too short":     {0, 0, 0, 1, 0},
		"no method":               appendRequest(nil, request{id: 1, timeout: time.Second}),
	} {
		t.Run(name, func(t *testing.T) { requireDeaf(t, dialAs(t, n, own, protocolRPC), say) })
	}
}

func TestJoinIsIdempotentForTheSameKey(t *testing.T) {
	t.Parallel()
	n1 := newCluster(t, inMemory)
	n2 := newNode(t, "n2", inMemory)
	n2.joinBy(n1)
	again := newNode(t, "n2", inMemory, func(o *Options) { o.Key = n2.o.Key })
	n2.stop()
	again.joinBy(n1) // a joiner that lost everything but its key
	require.Len(t, n1.Servers(), 2)
	require.Equal(t, ed25519.PublicKey(again.o.Key.Public()), mustMember(t, n1, "n2").Key)
}

func mustMember(t *testing.T, n *testNode, id string) Member {
	t.Helper()
	m, ok := n.table.Member(id)
	require.True(t, ok)
	return m
}
