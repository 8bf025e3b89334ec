package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/deputy-id/deputy/internal/privatefile"
)

// NodeKey is the Ed25519 key that a node is known by. It never leaves the node and is not the key that signs
// tokens. The zero NodeKey is not usable.
type NodeKey struct {
	private ed25519.PrivateKey
}

const nodeKeyBlock = "PRIVATE KEY" // PKCS #8, RFC 5958

// A key, unlike the log, doesn't grow old: any copy of it will do.
const adviceNodeKey = "put back a copy of this file, or remove this node from the cluster, move its data folder away and join under a new name"

// NewNodeKey makes a key that is not stored anywhere.
func NewNodeKey() (NodeKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return NodeKey{}, fmt.Errorf("making a node key: %w", err)
	}
	return NodeKey{private: private}, nil
}

// LoadOrCreateNodeKey reads the key at path, or makes one and stores it there with mode 0600 before returning.
// A file that others may read, or that holds anything else, is an error: the node would lose its identity.
func LoadOrCreateNodeKey(path string) (NodeKey, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createNodeKey(path)
	}
	if err != nil {
		return NodeKey{}, fmt.Errorf("reading the node key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return NodeKey{}, fmt.Errorf("node key %s has mode %04o; others may read it: chmod 600 it, or if it may have leaked, "+
			"remove the node from the cluster and join under a new name", path, info.Mode().Perm())
	}
	data, err := readBounded(path, 16<<10)
	if err != nil {
		return NodeKey{}, fmt.Errorf("reading the node key: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != nodeKeyBlock || len(rest) != 0 {
		return NodeKey{}, fmt.Errorf("node key %s is damaged: it holds no single PEM block of type %s; %s", path, nodeKeyBlock, adviceNodeKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return NodeKey{}, fmt.Errorf("node key %s is damaged: %w; %s", path, err, adviceNodeKey)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return NodeKey{}, fmt.Errorf("node key %s is a %T; it must be an Ed25519 key; %s", path, parsed, adviceNodeKey)
	}
	return NodeKey{private: private}, nil
}

func createNodeKey(path string) (NodeKey, error) {
	key, err := NewNodeKey()
	if err != nil {
		return NodeKey{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.private)
	if err != nil {
		return NodeKey{}, fmt.Errorf("encoding the node key: %w", err)
	}
	if err := privatefile.Create(path, pem.EncodeToMemory(&pem.Block{Type: nodeKeyBlock, Bytes: der})); err != nil {
		return NodeKey{}, fmt.Errorf("storing the node key: %w", err)
	}
	return key, nil
}

// Public returns the half that the table of members holds, or nil for the zero NodeKey.
func (k NodeKey) Public() ed25519.PublicKey {
	if k.private == nil {
		return nil
	}
	return k.private.Public().(ed25519.PublicKey)
}

// Sign signs a message by which other members recognise this node. Callers prefix messages with their purpose.
func (k NodeKey) Sign(message []byte) []byte { return ed25519.Sign(k.private, message) }
