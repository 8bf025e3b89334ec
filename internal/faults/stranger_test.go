package faults

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// strangerWait is how long a stranger's connection may stay open without getting anywhere.
const strangerWait = 15 * time.Second

func TestStrangerKeyGetsNowhereOnTheClusterPort(t *testing.T) {
	f := newFleet(t, 3)
	target := f.leader(t)

	for _, protocol := range []string{"deputy-raft", "deputy-rpc", "", "h2"} {
		t.Run("key of its own, protocol "+protocol, func(t *testing.T) {
			requireDead(t, target, strangerTLS(t, protocol, true))
		})
	}
	for _, protocol := range []string{"deputy-raft", "deputy-rpc", "deputy-join"} {
		t.Run("no key, protocol "+protocol, func(t *testing.T) {
			requireDead(t, target, strangerTLS(t, protocol, false))
		})
	}
	t.Run("old TLS", func(t *testing.T) {
		config := strangerTLS(t, "deputy-rpc", true)
		config.MaxVersion = tls.VersionTLS12
		requireDead(t, target, config)
	})
	t.Run("no TLS", func(t *testing.T) {
		conn := dial(t, target)
		_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		requireNothingOfUse(t, conn)
	})
	t.Run("joining with nothing to show", func(t *testing.T) {
		conn := tls.Client(dial(t, target), strangerTLS(t, "deputy-join", true))
		require.NoError(t, conn.HandshakeContext(within(t, strangerWait)), "this protocol is for strangers")
		_, _ = conn.Write([]byte("\x00\x00\x00\x10let me in please"))
		requireNothingOfUse(t, conn)
	})
	// A member's data folder with another key in it is a stranger too.
	t.Run("member under another key", func(t *testing.T) {
		impostor := f.nodes[2]
		if impostor == target {
			impostor = f.nodes[1]
		}
		require.NoError(t, impostor.stop(t, os.Interrupt))
		key := filepath.Join(impostor.dir, "data", "node.key")
		require.NoError(t, os.Rename(key, key+".true"))
		impostor.launch(t)
		requireNeverReady(t, impostor, 8*time.Second)
		if impostor.process != nil {
			impostor.kill(t)
		}

		require.NoError(t, os.Rename(key+".true", key))
		impostor.start(t)
	})

	f.requireVouched(t, target, f.cast(t), 0) // nothing of that did any harm
	members, err := f.members(t, target)
	require.NoError(t, err)
	require.Len(t, members, 3)
}

// requireNeverReady watches a node that must not come up, whether it ends or goes on trying.
func requireNeverReady(t *testing.T, n *node, watch time.Duration) {
	t.Helper()
	deadline := time.Now().Add(watch)
	eventually(t, watch+10*time.Second, "the watch to be over", func() error {
		select {
		case <-n.process.exited:
			require.Error(t, n.process.err)
			n.process = nil
			return nil
		default:
		}
		if err := n.ready(); err == nil {
			return final(fmt.Errorf("%s is ready\n%s", n.id, n.lastWords()))
		}
		if time.Now().Before(deadline) {
			return errors.New("not over yet")
		}
		return nil
	})
}

func dial(t *testing.T, n *node) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), strangerWait)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.cluster)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(strangerWait)))
	return conn
}

// requireDead makes sure that the connection ends without a byte of the protocol. In TLS 1.3 the client is done
// first, so the refusal may arrive with the first read.
func requireDead(t *testing.T, n *node, config *tls.Config) {
	t.Helper()
	conn := tls.Client(dial(t, n), config)
	if err := conn.HandshakeContext(within(t, strangerWait)); err != nil {
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "%s leaves strangers waiting", n.id)
		return
	}
	_, _ = conn.Write(make([]byte, 64))
	requireNothing(t, conn)
}

// requireNothing reads until the other end hangs up, which it must do without having said a word.
func requireNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	said, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "a stranger's connection is left open")
	require.Empty(t, said, "a stranger is answered: %q", said)
}

// requireNothingOfUse allows for an error in words or an alert, and nothing more than that.
func requireNothingOfUse(t *testing.T, conn net.Conn) {
	t.Helper()
	said, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "a stranger's connection is left open")
	require.Less(t, len(said), 512, "%q", said)
	for _, secret := range []string{"gossip", "members", "key"} {
		require.NotContains(t, string(said), secret)
	}
}

// strangerTLS is how somebody comes who knows the protocol but whom nobody knows.
func strangerTLS(t *testing.T, protocol string, withKey bool) *tls.Config {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if protocol != "" {
		config.NextProtos = []string{protocol}
	}
	if !withKey {
		return config
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "n2"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	require.NoError(t, err)
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}
	return config
}
