package server_test

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/server"
)

const (
	pairedMints   = 4000 // of one turn, over so many connections
	pairedWorkers = 4
	pairedWarmUp  = 500
)

// BenchmarkPairedDeadSink mints at a node whose sinks are dead, one that refuses connections and one that takes them and
// reads nothing, and at a node without sinks: in turns, so that a busy moment of the machine meets both alike, and with
// only the one that is measured running. One op is a turn of each; the order changes from op to op. What is reported are the
// medians over the turns, so that a turn in which the machine was busy with something else counts as one.
//
//	go test -run '^$' -bench PairedDeadSink -benchtime 8x ./server
func BenchmarkPairedDeadSink(b *testing.B) {
	stuck, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { _ = stuck.Close() })
	sides := []*pairedSide{newPairedSide(b), newPairedSide(b,
		server.AuditSinkConfig{Name: "refused", Type: "syslog", Address: "127.0.0.1:1"},
		server.AuditSinkConfig{Name: "stuck", Type: "syslog", Address: stuck.Addr().String(), TLS: true},
	)}
	var ratios []float64
	for i := 0; b.Loop(); i++ {
		order := []int{0, 1}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, side := range order {
			sides[side].turn()
		}
		ratios = append(ratios, float64(sides[1].p99[i])/float64(sides[0].p99[i]))
	}
	without, dead := median(sides[0].p99), median(sides[1].p99)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(sides[0].p50))/1e3, "p50-without-µs")
	b.ReportMetric(float64(median(sides[1].p50))/1e3, "p50-dead-µs")
	b.ReportMetric(float64(without)/1e3, "p99-without-µs")
	b.ReportMetric(float64(dead)/1e3, "p99-dead-µs")
	b.ReportMetric(float64(dead)/float64(without), "p99-ratio")
	b.ReportMetric(median(ratios), "p99-ratio-of-pairs")
	sides[1].requireAllKept()
}

// pairedSide is one of the two nodes.
type pairedSide struct {
	b       *testing.B
	cluster *testcluster.Cluster
	agent   client.Credentials
	p50     []time.Duration // of each turn
	p99     []time.Duration
	minted  uint64
}

func newPairedSide(b *testing.B, sinks ...server.AuditSinkConfig) *pairedSide {
	b.Helper()
	c := testcluster.NewWith(b, 1, func(o *server.Options) {
		o.Config.Audit.Sinks = sinks
		o.Logger = slog.New(slog.DiscardHandler)
	})
	admin := c.Client(0)
	made, err := admin.CreateAgent(b.Context(), &wire.AgentRequest{
		Profile: wire.Profile{Name: "bookkeeper", AgentType: identity.AgentScheduled}, DefaultScopes: "ledger.read",
	}, true)
	require.NoError(b, err)
	c.Stop(0)
	return &pairedSide{b: b, cluster: c, agent: client.Credentials{ID: made.Credential.ClientID, Secret: made.Credential.Secret}}
}

// turn starts the node, mints, and stops it.
func (s *pairedSide) turn() {
	s.b.Helper()
	s.cluster.Restart(0)
	require.Eventually(s.b, func() bool {
		_, err := s.cluster.Client(0).MintToken(s.b.Context(), s.agent, client.TokenOptions{})
		return err == nil
	}, auditWait, 20*time.Millisecond)
	s.mint(pairedWarmUp)
	took := s.mint(pairedMints)
	s.cluster.Stop(0)
	slices.Sort(took)
	s.p50, s.p99 = append(s.p50, took[len(took)/2]), append(s.p99, took[len(took)*99/100])
}

// mint has each worker mint one token after the other, and returns how long each took.
func (s *pairedSide) mint(total int) []time.Duration {
	s.b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: pairedWorkers}
	defer transport.CloseIdleConnections()
	caller := &http.Client{Transport: transport}
	took := make([][]time.Duration, pairedWorkers)
	failed := make([]error, pairedWorkers)
	var wait sync.WaitGroup
	for w := range pairedWorkers {
		wait.Go(func() {
			for range total / pairedWorkers {
				began := time.Now()
				if failed[w] = s.one(caller); failed[w] != nil {
					return
				}
				took[w] = append(took[w], time.Since(began))
			}
		})
	}
	wait.Wait()
	for _, err := range failed {
		require.NoError(s.b, err)
	}
	s.minted += uint64(total)
	return slices.Concat(took...)
}

func (s *pairedSide) one(caller *http.Client) error {
	form := url.Values{"grant_type": {"client_credentials"}}
	r, err := http.NewRequestWithContext(s.b.Context(), http.MethodPost, s.cluster.URL(0)+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(s.agent.ID, s.agent.Secret)
	answer, err := caller.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("a mint was answered with %d", answer.StatusCode)
	}
	return nil
}

// requireAllKept wants every record of a mint to wait for the sinks to be back.
func (s *pairedSide) requireAllKept() {
	s.b.Helper()
	s.cluster.Restart(0)
	require.Eventually(s.b, func() bool {
		all, err := s.cluster.Client(0).AuditSinks(s.b.Context())
		if err != nil || len(all.Sinks) != 2 {
			return false
		}
		for _, sink := range all.Sinks {
			if sink.Lost != 0 || sink.Behind < s.minted {
				return false
			}
		}
		return true
	}, auditWait, 20*time.Millisecond)
}

func median[T cmp.Ordered](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
