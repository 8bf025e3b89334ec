package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/internal/privatefile"
)

// What the file "recovering" says.
const (
	recoveryBegun = "begun" // the log may be that of the lost cluster or of the new one
	recoveryMade  = "made"  // the log is that of a cluster of one; its owner has yet to say what that means
)

// ErrNothingToRecover: the node is the only one of its cluster, so it has its quorum.
var ErrNothingToRecover = errors.New("this node is the only one in its cluster already; it needs no recovery")

// RecoverQuorum makes the node of a data folder the only voter of its cluster, when so many of the others are
// lost for good that nothing can be committed any more. The node must not be running.
//
// What is risked: what the lost nodes had acknowledged and this one had not received yet is gone, so recover the
// node with the highest index; and if a lost node is not lost after all and is started again, there are two
// clusters that go by one name. What this node had received and nobody had acknowledged becomes part of the log.
//
// The steps are in an order that can be broken off anywhere and begun again: a mark is written, the log becomes
// that of a cluster of one, by one rename inside raft.RecoverCluster, the remembered peers are deleted, and the
// mark says that this is done. Until it does, New refuses the folder. From then on Node.Recovering is true until
// the owner has committed what the loss means to it and calls Node.RecoveryDone.
//
// o is what New would get, with a state machine of its own: it is filled from the folder and thrown away.
func RecoverQuorum(o Options) error {
	if o.NodeID == "" || o.DataDir == "" || o.Key.private == nil || o.FSM == nil || o.InMemory {
		return errors.New("recovering a node takes its id, its key, its data folder and a state machine")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := beginRecovery(&o)
	if err != nil || r == nil {
		return err
	}
	return errors.Join(r.run(), r.close())
}

// recovery is one that is under way in a locked folder.
type recovery struct {
	o       *Options
	dir     *dataDir
	s       *stores
	rewrite func() error // makes the log that of a cluster of one
}

// beginRecovery checks that there is something to recover and marks the folder. It returns nil where all is done.
func beginRecovery(o *Options) (_ *recovery, err error) {
	if _, err := os.Stat(o.DataDir); err != nil {
		return nil, folderError("looking for the folder of the node to recover", err)
	}
	r := &recovery{o: o}
	r.rewrite = r.rewriteLog
	if r.dir, err = lockDataDir(o.DataDir); err != nil {
		return nil, err
	}
	done, err := r.prepare()
	if err != nil || done {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *recovery) prepare() (done bool, err error) {
	r.dir.offline = true
	if !r.dir.has(identityFile) {
		return false, fmt.Errorf("recovering the cluster: there is no node's data in %s", r.dir.path)
	}
	if err := r.dir.claim(nodeIdentity{NodeID: r.o.NodeID, Key: r.o.Key.Public()}); err != nil {
		return false, err
	}
	stage, err := r.dir.recovery()
	if err != nil || stage == recoveryMade {
		return true, err
	}
	stall := &stallWatch{limit: r.o.Tuning.withDefaults().DiskStall, hook: r.stalled}
	if r.s, err = openStores(r.dir, stall, newHclog(r.o.Logger, "raft")); err != nil || stage == recoveryBegun {
		return false, err
	}
	config, err := r.s.configuration()
	switch {
	case err != nil:
		return false, err
	case len(config.Servers) == 0:
		return false, fmt.Errorf("recovering the cluster: the log in %s is empty, so this node has nothing to go on with; recover another one", r.dir.path)
	case isAlone(config, r.o.NodeID):
		return false, ErrNothingToRecover
	}
	return false, r.dir.setRecovery(recoveryBegun)
}

func (r *recovery) run() error {
	if err := r.rewrite(); err != nil {
		return fmt.Errorf("recovering the cluster from %s: %w", r.dir.path, err)
	}
	// They name an index that this log may never have reached, and nodes that are gone.
	if err := r.dir.remove(peersFile); err != nil {
		return folderError("forgetting the lost members", err)
	}
	return r.dir.setRecovery(recoveryMade)
}

func (r *recovery) rewriteLog() error {
	alone := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(r.o.NodeID), Address: raftAddress(r.o.NodeID),
	}}}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = raft.ServerID(r.o.NodeID), newHclog(r.o.Logger, "raft")
	_, transport := raft.NewInmemTransport(raftAddress(r.o.NodeID)) // only spells addresses
	return guarded(r.dir.file(logFile), func() error {
		return raft.RecoverCluster(conf, r.o.FSM, r.s.logs, r.s.stable, r.s.snapshots, transport, alone)
	})
}

func (r *recovery) close() error {
	var err error
	if r.s != nil {
		err = r.s.close()
	}
	return errors.Join(err, r.dir.close())
}

func (r *recovery) stalled(elapsed time.Duration) {
	if r.o.OnDiskStall != nil {
		r.o.OnDiskStall(elapsed)
	}
}

// Recovering reports whether RecoverQuorum has made this node the only one of its cluster and the owner has not
// called RecoveryDone since.
func (n *Node) Recovering() bool {
	if n.dir == nil {
		return false
	}
	stage, err := n.dir.recovery()
	return err != nil || stage != "" // an unreadable mark is a mark
}

// RecoveryDone takes the mark of a recovery away. The owner calls it once all that follows from the loss is
// committed; without a mark it does nothing.
func (n *Node) RecoveryDone() error {
	if n.dir == nil {
		return nil
	}
	if err := n.dir.remove(recoveryFile); err != nil {
		return folderError("ending the recovery", err)
	}
	return nil
}

// recovery is what the mark says; empty where there is none.
func (d *dataDir) recovery() (stage string, err error) {
	data, err := readBounded(d.file(recoveryFile), 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", folderError("reading how far the recovery came", err)
	}
	// Anything else is as good as a beginning: doing it again does no harm.
	if strings.TrimSpace(string(data)) == recoveryMade {
		return recoveryMade, nil
	}
	return recoveryBegun, nil
}

func (d *dataDir) setRecovery(stage string) error {
	if err := privatefile.Replace(d.file(recoveryFile), []byte(stage+"\n")); err != nil {
		return folderError("marking the recovery", err)
	}
	return nil
}

// refuseHalfRecovered keeps a node from starting between the log of the lost cluster and that of the new one.
func (d *dataDir) refuseHalfRecovered() error {
	stage, err := d.recovery()
	if err != nil {
		return err
	}
	if stage == recoveryBegun {
		return fmt.Errorf("%w: %s says that a recovery from lost quorum was begun and not finished; run the recovery again, it goes on where it was",
			ErrCorruptFolder, d.file(recoveryFile))
	}
	return nil
}
