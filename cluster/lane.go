package cluster

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// What an entry of the log costs - a write to the leader's disk, the way to every follower and to their disks - costs
// as much for a command of 200 bytes as for a hundred of them. So commands that wait while earlier ones are on their
// way go together, in one entry that the owner's Packing makes. Nobody waits for company: a command that comes while
// little is on its way leaves at once.

// Bounds of an entry that commands share. Raft keeps logCacheEntries of them in memory for followers, and sends
// maxAppended at a time.
const (
	maxShared      = 256      // commands
	maxSharedBytes = 64 << 10 // of all commands together
	maxShareable   = 16 << 10 // a command beyond this has an entry of its own

	// urgentProposals are the places of Node.proposals that only urgent commands get: a flood of others refuses none.
	urgentProposals = 256

	// Entries of a lane that are on their way. The second one leaves as soon as it has something to carry, so that a
	// command does not wait for all of the round trip of the one before it; more leave only full.
	eagerEntries = 2
	mostEntries  = 4
)

// Responses are what the state machine answers an entry that commands share: the response to each command, in their order.
// They are looked at after Apply, and only where the entry was proposed.
type Responses interface {
	Len() int
	At(i int) any
}

// Packing is how commands share an entry of the log. The state machine answers such an entry with Responses.
type Packing struct {
	// Pack makes one entry of commands, of which it is given at least two.
	Pack func(commands [][]byte) ([]byte, error)
	// Seen reports whether this node's state machine has applied such an entry: then all who follow the log can.
	Seen func() bool
}

// Terms say in what company a command may travel.
type Terms struct {
	// Urgent commands wait for none but their like.
	Urgent bool
	// Alone is a command that must have an entry, and with it an index, of its own.
	Alone bool
	// Object names what the command changes, where who reads it tells one state of it from another by the index: two
	// commands with the same object never share an entry. It may be empty.
	Object string
}

// proposal is a command on its way.
type proposal struct {
	command []byte
	terms   Terms
	done    chan proposed // holds one
}

// proposed is what came of a proposal.
type proposed struct {
	Applied
	err error
}

// lane is a queue of proposals that may share entries, and of those that are on their way. Whoever is in it holds a place
// in Node.proposals, which bounds it.
type lane struct {
	node *Node

	mu      sync.Mutex
	waiting []*proposal
	bytes   int // of the commands that wait
	out     int // entries on their way
	closed  bool
}

// add queues a proposal, and sends what may leave.
func (l *lane) add(p *proposal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.refuse(p)
		return
	}
	l.waiting = append(l.waiting, p)
	l.bytes += len(p.command)
	l.send()
}

// close tells all who wait, and all who come, that the node stops. What is on its way goes on.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, p := range l.waiting {
		l.refuse(p)
	}
	l.waiting, l.bytes = nil, 0
}

// refuse answers a proposal of which nothing was proposed.
func (l *lane) refuse(p *proposal) {
	<-l.node.proposals
	p.done <- proposed{err: ErrStopped}
}

// withdraw takes a proposal back that nobody waits for any more; false where it has left.
func (l *lane) withdraw(p *proposal) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.Index(l.waiting, p)
	if at < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, at, at+1)
	l.bytes -= len(p.command)
	return true
}

// send lets entries leave for as long as they may. The caller holds mu.
func (l *lane) send() {
	sharing := l.node.mayShare()
	for l.mayLeave(sharing) {
		batch := l.take(sharing)
		l.out++
		l.node.committing.Go(func() { l.commit(batch) })
	}
}

func (l *lane) mayLeave(sharing bool) bool {
	switch {
	case len(l.waiting) == 0:
		return false
	case !sharing || l.out < eagerEntries:
		return true
	default:
		full := len(l.waiting) >= maxShared || l.bytes >= maxSharedBytes
		return l.out < mostEntries && (full || l.waiting[0].isAlone())
	}
}

func (p *proposal) isAlone() bool { return p.terms.Alone || len(p.command) > maxShareable }

// take takes the commands of the next entry from the queue, at least one. Which of two commands about one object comes first
// is nobody's promise: neither has been answered while the other waits.
func (l *lane) take(sharing bool) []*proposal {
	var (
		batch   []*proposal
		objects []string // in the batch
		size    int
		kept    = l.waiting[:0]
	)
	if !sharing {
		batch = l.waiting[:1:1]
		l.waiting = l.waiting[1:]
		l.bytes -= len(batch[0].command)
		return batch
	}
	for i, p := range l.waiting {
		if len(batch) > 0 && (p.isAlone() || len(batch) == maxShared || size+len(p.command) > maxSharedBytes) {
			kept = append(kept, l.waiting[i:]...)
			break
		}
		if p.terms.Object != "" {
			if slices.Contains(objects, p.terms.Object) {
				kept = append(kept, p)
				continue
			}
			objects = append(objects, p.terms.Object)
		}
		batch = append(batch, p)
		size += len(p.command)
		if p.isAlone() {
			kept = append(kept, l.waiting[i+1:]...)
			break
		}
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
	l.bytes -= size
	return batch
}

// commit takes one entry through raft and tells everybody in it what became of their command.
func (l *lane) commit(batch []*proposal) {
	index, response, err := l.node.apply(batch)
	l.mu.Lock()
	l.out--
	l.send() // before the answers: those who get them will be back
	l.mu.Unlock()
	responses, shared := response.(Responses) // a state machine that has halted gives one response for all
	if shared = shared && len(batch) > 1; shared && responses.Len() != len(batch) {
		panic("BUG: the state machine answered an entry with another number of responses than it has commands")
	}
	for i, p := range batch {
		o := proposed{Applied: Applied{Index: index, Response: response}, err: err}
		if shared {
			o.Response = responses.At(i)
		}
		<-l.node.proposals
		p.done <- o
	}
}

// apply has raft commit one entry. The error is one of this package's.
func (n *Node) apply(batch []*proposal) (index uint64, response any, err error) {
	r, err := n.active()
	if err != nil {
		return 0, nil, err
	}
	entry := batch[0].command
	if len(batch) > 1 {
		commands := make([][]byte, len(batch))
		for i, p := range batch {
			commands[i] = p.command
		}
		if entry, err = n.o.Packing.Pack(commands); err != nil {
			return 0, nil, err
		}
	}
	return n.put(r, entry)
}

// put has raft put an entry in the log and apply it.
func (n *Node) put(r *raft.Raft, entry []byte) (index uint64, response any, err error) {
	n.metrics.entries.Inc()
	// With BatchApplyCh the timeout only bounds the wait for a place in raft's queue: once in there, an entry stays until
	// it is applied or leadership ends.
	future := r.Apply(entry, max(n.tuning.ProposeTimeout, time.Nanosecond))
	switch err := n.answerTo(future); {
	case err == nil:
		return future.Index(), future.Response(), nil
	case errors.Is(err, raft.ErrRaftShutdown) && future.Index() == 0:
		return 0, nil, ErrStopped // raft has ended, or has not taken it, before it had a place in the log
	default:
		return 0, nil, proposeError(err)
	}
}

// answerTo waits for raft's answer, or for its end: what is in its queues then it never answers. Who waits for that alone
// stays for as long as the process.
func (n *Node) answerTo(future raft.Future) error {
	if given, err := answered(future, n.ended); given {
		return err
	}
	return raft.ErrRaftShutdown
}

// mayShare reports whether every server can read an entry that holds several commands. Raft replicates to builds of before
// that, which would halt at the first one, while a cluster is upgraded node by node.
func (n *Node) mayShare() bool {
	if n.sharing.Load() {
		return true
	}
	if n.o.Packing.Pack == nil || !n.o.Packing.Seen() {
		return false
	}
	n.sharing.Store(true)
	return true
}

// learnSharing looks whether every server of the configuration has said of late that it reads shared entries: one that
// said so and is gone may come back as an older build. There is no way back: what was once in the log must be read by
// whoever joins.
func (p *pilot) learnSharing() {
	n := p.node
	if n.sharing.Load() || n.o.Packing.Pack == nil {
		return
	}
	config, _, err := configuration(p.raft)
	if err != nil || len(config.Servers) == 0 {
		return
	}
	if p.allShare(config) {
		n.logger.Info("all servers read entries of several commands")
		n.sharing.Store(true)
	}
}

func (p *pilot) allShare(config raft.Configuration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range config.Servers {
		report := p.members[string(s.ID)]
		if report.entries < entriesShared || !p.recent(report) {
			return false
		}
	}
	return true
}
