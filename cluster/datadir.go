package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/deputy-id/deputy/internal/privatefile"
)

// Names inside the data folder.
const (
	lockFile     = "lock"
	identityFile = "node.json"
	peersFile    = "peers.json"
	logFile      = "raft.db"
)

// dataDir is a locked data folder of this very node.
type dataDir struct {
	path string
	lock *os.File
}

// nodeIdentity is what a data folder says about its owner.
type nodeIdentity struct {
	NodeID string `json:"node_id"`
	Key    []byte `json:"key"`
}

// openDataDir makes the folder if need be, locks it, and refuses one that belongs to another node.
func openDataDir(path string, self nodeIdentity) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data folder: %w", err)
	}
	// flock goes with the open file: kill -9 releases it, and a stale lock can't exist.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s; stop that process, or give this node a folder of its own", ErrDataDirInUse, path)
		}
		return nil, fmt.Errorf("locking the data folder %s: %w", path, err)
	}
	d := &dataDir{path: path, lock: lock}
	if err := d.claim(self); err != nil {
		_ = d.close()
		return nil, err
	}
	return d, nil
}

// claim writes who the folder belongs to, or checks it.
func (d *dataDir) claim(self nodeIdentity) error {
	path := d.file(identityFile)
	data, err := readBounded(path, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		encoded, err := json.Marshal(self)
		if err != nil {
			return fmt.Errorf("encoding %s: %w", path, err)
		}
		return privatefile.Replace(path, encoded)
	}
	if err != nil {
		return err
	}
	var found nodeIdentity
	if err := json.Unmarshal(data, &found); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	if found.NodeID != self.NodeID {
		return fmt.Errorf("%w: %s belongs to node %q, this is node %q; point it at its own folder",
			ErrWrongDataDir, d.path, found.NodeID, self.NodeID)
	}
	if !bytes.Equal(found.Key, self.Key) {
		return fmt.Errorf("%w: %s was made under another node key; restore that key file, or remove the node and join under a new name",
			ErrWrongDataDir, d.path)
	}
	return nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) close() error { return d.lock.Close() }

// readBounded reads a whole file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}
