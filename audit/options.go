package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/deputy-id/deputy/identity"
)

// Sync says when a record is safe from a power cut. From kill -9 it is safe in either mode once it is acknowledged.
type Sync string

// Modes of syncing.
const (
	SyncBackground Sync = "background" // within SyncWithin; a power cut loses at most what is younger
	SyncAlways     Sync = "always"     // before the acknowledgement
)

// Full says what happens to a record for which the queue has no room.
type Full string

// Modes of a full queue.
const (
	FullBlock        Full = "block"          // it waits: no record, no token
	FullDropAndCount Full = "drop-and-count" // it is left out, and a later record says how many were
)

// Bounds and defaults. Each default may be changed by the option that it is named in.
const (
	defaultSyncWithin        = 50 * time.Millisecond
	defaultQueueRecords      = 8192    // a quarter of a second of mints of a busy node
	defaultQueueBytes        = 8 << 20 // and their size
	defaultPatience          = 10 * time.Second
	defaultSegmentBytes      = 64 << 20
	defaultSegmentAge        = 24 * time.Hour
	defaultRetainAge         = 90 * 24 * time.Hour
	defaultRetainBytes       = 10 << 30
	defaultCheckpointEvery   = time.Second
	defaultCheckpointRecords = 4096

	minSegmentBytes = 2 * MaxLine // room for a header, a record and a checkpoint
	maxSegmentBytes = 1 << 30     // it is read when a node starts
	maxQueueRecords = 1 << 20
	maxSinks        = 16
)

// Options of a log. Dir, Node and Signer are required; for the rest the zero value is the default that is named.
type Options struct {
	Dir    string // the node's own; made if need be
	Node   string // the node's name, a slug
	Signer Signer

	Sync       Sync          // SyncBackground
	SyncWithin time.Duration // 50 ms; for SyncBackground
	Full       Full          // FullBlock

	QueueRecords int // 8192
	QueueBytes   int // 8 MiB
	// Patience is for how long a caller whose context has no deadline waits for room and for somebody else's write; 10 s.
	Patience time.Duration

	SegmentBytes int64         // 64 MiB: size of a file
	SegmentAge   time.Duration // 24 h: until another file is begun
	RetainAge    time.Duration // 90 days: how long a segment is kept after its last record
	RetainBytes  int64         // 10 GiB: of all segments together
	HardBytes    int64         // twice RetainBytes: from here on segments go even if a sink hasn't read them

	CheckpointEvery   time.Duration // 1 s: the longest time that a record stays without a signature over it
	CheckpointRecords int           // 4096: the most records between two

	// OnCheckpoint is given the newest checkpoint, to be sent to other nodes. It is called by one goroutine, which
	// skips to the newest while a call is under way.
	OnCheckpoint func(Checkpoint)
	// PeerKey knows the keys by which checkpoints of other nodes are accepted. Nil: none are.
	PeerKey func(node string) (ed25519.PublicKey, bool)

	Sinks []SinkOptions

	Now        func() time.Time      // time.Now
	Logger     *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // nil: no metrics

	// For tests: files that fail, and segments smaller than anybody needs.
	openFile    func(path string, create bool) (file, error)
	replaceHead func(dir string, text []byte, lasting bool) error
	tinyBounds  bool
}

func (o *Options) setDefaults() {
	setDefault(&o.Sync, SyncBackground)
	setDefault(&o.SyncWithin, defaultSyncWithin)
	setDefault(&o.Full, FullBlock)
	setDefault(&o.QueueRecords, defaultQueueRecords)
	setDefault(&o.QueueBytes, defaultQueueBytes)
	setDefault(&o.Patience, defaultPatience)
	setDefault(&o.SegmentBytes, defaultSegmentBytes)
	setDefault(&o.SegmentAge, defaultSegmentAge)
	setDefault(&o.RetainAge, defaultRetainAge)
	setDefault(&o.RetainBytes, defaultRetainBytes)
	setDefault(&o.HardBytes, 2*o.RetainBytes)
	setDefault(&o.CheckpointEvery, defaultCheckpointEvery)
	setDefault(&o.CheckpointRecords, defaultCheckpointRecords)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.openFile == nil {
		o.openFile = openFile
	}
	if o.replaceHead == nil {
		o.replaceHead = replaceHead
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

func setDefault[T comparable](value *T, to T) {
	var zero T
	if *value == zero {
		*value = to
	}
}

// validate names every option that is wrong.
func (o *Options) validate() error {
	var wrong []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	check(o.Dir != "", "the folder of the audit log is missing")
	if err := identity.ValidName(o.Node); err != nil {
		check(false, "the node's name %w", err)
	}
	check(o.Sync == SyncBackground || o.Sync == SyncAlways, "sync is %q; it must be %s or %s", string(o.Sync), SyncBackground, SyncAlways)
	check(o.Full == FullBlock || o.Full == FullDropAndCount, "full is %q; it must be %s or %s", string(o.Full), FullBlock, FullDropAndCount)
	between(&wrong, "the time until records are synced", o.SyncWithin, time.Millisecond, 10*time.Second)
	between(&wrong, "the number of records in the queue", o.QueueRecords, 1, maxQueueRecords)
	between(&wrong, "the size of the queue in bytes", o.QueueBytes, MaxLine, 1<<30)
	between(&wrong, "the patience of callers", o.Patience, time.Millisecond, time.Hour)
	least := int64(minSegmentBytes)
	if o.tinyBounds {
		least = 1
	}
	between(&wrong, "the size of a segment in bytes", o.SegmentBytes, least, maxSegmentBytes)
	between(&wrong, "the age of a segment", o.SegmentAge, time.Second, 366*24*time.Hour)
	between(&wrong, "the time that records are kept", o.RetainAge, time.Minute, 100*366*24*time.Hour)
	check(o.RetainBytes >= o.SegmentBytes, "records are kept up to %d bytes; at least one segment of %d must fit", o.RetainBytes, o.SegmentBytes)
	check(o.HardBytes >= o.RetainBytes, "the hard bound of %d bytes is below the %d that are to be kept", o.HardBytes, o.RetainBytes)
	between(&wrong, "the time between two checkpoints", o.CheckpointEvery, 10*time.Millisecond, time.Hour)
	between(&wrong, "the number of records between two checkpoints", o.CheckpointRecords, 1, maxCheckpointRecords)
	check(len(o.Sinks) <= maxSinks, "there are %d sinks; at most %d are allowed", len(o.Sinks), maxSinks)
	names := map[string]bool{}
	for i := range o.Sinks {
		s := &o.Sinks[i]
		if err := identity.ValidName(s.Name); err != nil {
			check(false, "the name of sink %d %w", i+1, err)
		}
		check(!names[s.Name], "two sinks are named %q", s.Name)
		names[s.Name] = true
		check(s.Sink != nil, "sink %q leads nowhere", s.Name)
		between(&wrong, "the records that sink "+s.Name+" takes at once", s.setDefaults().Batch, 1, 10_000)
	}
	if o.Signer == nil {
		check(false, "the signer is missing")
	} else {
		const probe = "deputy audit: does the signer fit its key?\n"
		key := o.Signer.Public()
		check(len(key) == ed25519.PublicKeySize && ed25519.Verify(key, []byte(probe), o.Signer.Sign([]byte(probe))),
			"what the signer signs doesn't hold against its own public key")
	}
	return errors.Join(wrong...)
}

func between[T int | int64 | time.Duration](wrong *[]error, what string, n, least, most T) {
	if n < least || n > most {
		*wrong = append(*wrong, fmt.Errorf("%s is %v; it must be between %v and %v", what, n, least, most))
	}
}
