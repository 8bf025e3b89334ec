package api

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

const (
	// maxStreams bounds the followers of one node. Each holds a connection with its buffers, some 60 kB in all.
	maxStreams = 4096
	// maxCallerStreams bounds those of one caller, so that none takes all the places.
	maxCallerStreams = 1024
	// streamHeartbeat is how often something is sent, and how often it is looked whether the stream may go on.
	streamHeartbeat = 3 * time.Second
	// streamStall is how long a client may take in nothing before it is hung up on.
	streamStall = 10 * time.Second
)

// streams are those who follow this node's revocation set.
type streams struct {
	heartbeat, stall time.Duration

	mu  sync.Mutex
	all int
	of  map[string]int // by caller

	commits atomic.Pointer[encodedCommit] // the latest

	open  prometheus.Gauge
	ended map[string]prometheus.Counter // by reason
}

// encodedCommit is a change as all streams send it. The thousands of them send the same one at about the same time.
type encodedCommit struct {
	index uint64
	of    *revocation.Entry // the first: the rest of a large change is another one
	text  []byte
}

// commit encodes a change that the log has brought. The result is shared.
func (s *streams) commit(c *revocation.Change) []byte {
	if len(c.Entries) == 0 {
		return encodeJSON(&wire.RevocationEvent{Index: c.Index})
	}
	if known := s.commits.Load(); known != nil && known.index == c.Index && known.of == &c.Entries[0] {
		return known.text
	}
	text := encodeJSON(&wire.RevocationEvent{Index: c.Index, Entries: showEntries(c.Entries)})
	s.commits.Store(&encodedCommit{c.Index, &c.Entries[0], text})
	return text
}

// Why a stream ended, for the metric.
const (
	endedByClient = "client" // it has gone away, or stopped reading
	endedByNode   = string(identity.CodeNotFresh)
	endedByAccess = string(identity.CodeUnauthenticated)
)

func newStreams(registerer prometheus.Registerer) (*streams, error) {
	s := &streams{heartbeat: streamHeartbeat, stall: streamStall, of: map[string]int{}, ended: map[string]prometheus.Counter{}}
	s.open = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "deputy", Subsystem: "api", Name: "streams", Help: "Validators and others who follow the revocation set here.",
	})
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "deputy", Subsystem: "api", Name: "streams_ended_total", Help: "Streams of the revocation set that ended, by the reason.",
	}, []string{"reason"})
	for _, c := range []prometheus.Collector{s.open, ended} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of streams: %w", err)
		}
	}
	for _, reason := range []string{endedByClient, endedByNode, endedByAccess, wire.EndShutdown, wire.EndBehind} {
		s.ended[reason] = ended.WithLabelValues(reason)
	}
	return s, nil
}

func (s *streams) enter(caller string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := maxStreams
	if s.all < maxStreams {
		if s.of[caller] < maxCallerStreams {
			s.all++
			s.of[caller]++
			s.open.Set(float64(s.all))
			return nil
		}
		most = maxCallerStreams
	}
	return identity.Errorf(identity.CodeOverloaded, "%d streams of the revocation set are open here, which is the most that there may be", most).
		WithHint("follow another node")
}

func (s *streams) leave(caller, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[caller]--; s.of[caller] == 0 {
		delete(s.of, caller)
	}
	s.open.Set(float64(s.all))
	s.ended[reason].Inc()
}
