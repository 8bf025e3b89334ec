package server

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// opsServer serves operators on a listener of its own: metrics, health and profiles. It speaks net/http as
// speed is no matter here and both promhttp and pprof do.
func (s *Server) opsServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes as long as it was asked to
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// readiness is the body of /readyz.
type readiness struct {
	Ready        bool   `json:"ready"`
	Node         string `json:"node"`
	Leader       string `json:"leader,omitempty"`
	AppliedIndex uint64 `json:"applied_index"`
	LeaseMillis  int64  `json:"lease_remaining_milliseconds"`
	LeaseAge     int64  `json:"lease_age_milliseconds"` // of the state that the lease proves
	Reason       string `json:"reason,omitempty"`
}

// serveReady answers 200 while this node may mint and introspect, else 503 with the reason.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	state := readiness{
		Node: s.config.NodeID, AppliedIndex: s.fsm.Applied(), LeaseMillis: s.lease.Remaining().Milliseconds(),
		LeaseAge: s.lease.State().Age.Milliseconds(),
	}
	if leader, ok := s.node.Leader(); ok {
		state.Leader = leader.ID
	}
	err := s.ready()
	state.Ready = err == nil
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		state.Reason = err.Error()
		w.WriteHeader(http.StatusServiceUnavailable)
	} else if why := s.fsm.View().Closed(); why != "" {
		// Of the whole cluster, so it would help nobody to go elsewhere, and the operator has to get in.
		state.Reason = "minting is closed: " + why
	}
	_ = json.NewEncoder(w).Encode(state)
}
