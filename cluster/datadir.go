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
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/deputy-id/deputy/internal/privatefile"
)

// Names inside the data folder.
const (
	lockFile       = "lock"
	identityFile   = "node.json"
	peersFile      = "peers.json"
	logFile        = "raft.db"
	snapshotFolder = "snapshots"  // raft's name for it
	unfinished     = ".tmp"       // ends the name of a snapshot that raft is writing
	damagedFolder  = "damaged"    // snapshots that can't be read and aren't needed
	recoveryFile   = "recovering" // see RecoverQuorum
)

// dataDir is a locked data folder of this very node.
type dataDir struct {
	path     string
	lock     *os.File
	identity nodeIdentity
	fresh    bool  // nothing was here before
	offline  bool  // nobody is to be found and let in
	peersBad error // what is wrong with peers.json; see knowsItsWay
}

// nodeIdentity is node.json: what a data folder says about its owner.
type nodeIdentity struct {
	Format    int    `json:"format"` // absent in the first version
	NodeID    string `json:"node_id"`
	Key       []byte `json:"key"`
	ClusterID string `json:"cluster_id,omitempty"` // once it is known
	LogMade   bool   `json:"log_made"`             // the log was there once: one that is missing since is lost
}

const identityFormat = 1

// What an operator can do about a folder that is lost. An older copy is no remedy: a node that goes back in time
// has forgotten its votes and what it told the leader to count as stored, and committed entries may vanish.
const (
	adviceRejoin = "remove this node from the cluster, move the folder away and join under a new name " +
		"(an older copy of the folder must not be used: with it the cluster could lose what it has committed)"
	adviceOwnFolder = "point this node at its own folder, or at an empty one"
)

func corrupt(path, what, advice string) error {
	return fmt.Errorf("%w: %s %s; %s", ErrCorruptFolder, path, what, advice)
}

func foreign(path, what, advice string) error {
	return fmt.Errorf("%w: %s %s; %s", ErrForeignFolder, path, what, advice)
}

// folderError says whose permissions are in the way, which is most of what goes wrong with files.
func folderError(doing string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w; the folder and all in it must be readable and writable for the user that runs the node (uid %d)",
			doing, err, os.Geteuid())
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// openDataDir makes the folder if need be, locks it, and refuses one that belongs to another node.
func openDataDir(path string, self nodeIdentity) (*dataDir, error) {
	d, err := lockDataDir(path)
	if err != nil {
		return nil, err
	}
	err = d.claim(self)
	if err == nil {
		err = d.refuseHalfRecovered()
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func lockDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, folderError("making the data folder", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, folderError("locking the data folder", err)
	}
	// flock goes with the open file: kill -9 releases it, and a stale lock can't exist.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s; stop that process, or give this node a folder of its own", ErrDataDirInUse, path)
		}
		return nil, fmt.Errorf("locking the data folder %s: %w", path, err)
	}
	return &dataDir{path: path, lock: lock}, nil
}

// claim writes who the folder belongs to, or checks it.
func (d *dataDir) claim(self nodeIdentity) error {
	self.Format = identityFormat
	path := d.file(identityFile)
	data, err := readBounded(path, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		for _, name := range []string{logFile, peersFile, snapshotFolder, recoveryFile} {
			if d.has(name) {
				return corrupt(path, "is missing though "+name+" is there, so nothing says whose folder this is",
					"put node.json back, or else "+adviceRejoin)
			}
		}
		d.fresh = true
		return d.identify(self)
	}
	if err != nil {
		return folderError("reading whose data folder this is", err)
	}
	if err := json.Unmarshal(data, &d.identity); err != nil || d.identity.NodeID == "" {
		return corrupt(path, "doesn't say whose folder this is", "put it back from a copy of this node's folder, or else "+adviceRejoin)
	}
	switch found := &d.identity; {
	case found.Format > identityFormat:
		return foreign(path, fmt.Sprintf("has format %d, this program knows up to %d", found.Format, identityFormat),
			"a newer version has run on it: install that one again")
	case found.NodeID != self.NodeID:
		return foreign(d.path, fmt.Sprintf("belongs to node %q, this is node %q", found.NodeID, self.NodeID), adviceOwnFolder)
	case !bytes.Equal(found.Key, self.Key):
		return foreign(d.path, "was made under another node key", "put that key file back, or "+adviceRejoin)
	}
	return nil
}

// identify writes node.json.
func (d *dataDir) identify(as nodeIdentity) error {
	encoded, err := json.Marshal(as)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", d.file(identityFile), err)
	}
	if err := privatefile.Replace(d.file(identityFile), encoded); err != nil {
		return folderError("claiming the data folder", err)
	}
	d.identity = as
	return nil
}

// inCluster notes which cluster the folder belongs to, or checks it. Either side may not know.
func (d *dataDir) inCluster(id string) error {
	switch {
	case id == "" || id == d.identity.ClusterID:
		return nil
	case d.identity.ClusterID != "":
		return foreign(d.path, fmt.Sprintf("is of cluster %s, this node is to run in %s", d.identity.ClusterID, id), adviceOwnFolder)
	}
	as := d.identity
	as.Format, as.ClusterID = identityFormat, id
	return d.identify(as)
}

// logMade notes that from now on a log that is missing is lost.
func (d *dataDir) logMade() error {
	if d.identity.LogMade {
		return nil
	}
	as := d.identity
	as.Format, as.LogMade = identityFormat, true
	return d.identify(as)
}

// used reports whether there was a log in here that may have held something.
func (d *dataDir) used() bool {
	if d.fresh {
		return false
	}
	// The first format didn't say, and in this one the first start may have been cut short before it could.
	return d.identity.LogMade || d.identity.Format == 0 || d.has(peersFile) || len(snapshotNames(d.file(snapshotFolder))) > 0
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) has(name string) bool {
	_, err := os.Lstat(d.file(name))
	return err == nil
}

func (d *dataDir) close() error { return d.lock.Close() }

// remove takes a file away for good, or is content that it isn't there.
func (d *dataDir) remove(name string) error {
	if err := os.Remove(d.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(d.path)
}

// syncFolder makes changes of names in a folder durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// snapshotNames are the finished snapshots in a folder, newest last by name only.
func snapshotNames(folder string) (names []string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasSuffix(e.Name(), unfinished) {
			names = append(names, e.Name())
		}
	}
	return names
}

// removeUnfinished takes away the snapshots that a process was writing when it was killed. Raft passes over them, with a
// warning each time it looks, and never gives their room back.
func (d *dataDir) removeUnfinished(logger hclog.Logger) error {
	folder := d.file(snapshotFolder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return folderError("looking for unfinished snapshots", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasSuffix(e.Name(), unfinished) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
			return folderError("removing an unfinished snapshot", err)
		}
		logger.Info("removed a snapshot that was never finished", "name", e.Name())
	}
	return nil
}

var errOverLimit = errors.New("more than the limit")

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
		return nil, fmt.Errorf("%s has %w of %d bytes", path, errOverLimit, limit)
	}
	return data, nil
}
