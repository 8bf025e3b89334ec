package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
)

// DriveWorkload is what a load asks for.
type DriveWorkload struct {
	Name  string
	About string
	Own   bool // it kills or removes nodes, and so needs those of the run's own
	Pair  bool // it needs two nodes at least
	Once  bool // it uses up what was made in advance, and so needs to know how much is offered

	prepare func(ctx context.Context, d *drive) (*job, error)
}

// job is a workload that is ready to run.
type job struct {
	operations []string
	deal       func(n uint64) int // nil: always the first
	work       func(connection, node int) load.Work
	expected   []expectation // of the tokens that each operation mints
	evidence   *evidence
	token      int // bytes of one

	// faults goes on beside the measured load, and ends with ctx at the latest.
	faults func(ctx context.Context, t *timeline) error
	// settle waits for what still goes on when the load is over, and returns what it has found as further subjects.
	settle func(ctx context.Context) ([]result.Subject, error)
	// stop ends what prepare has begun.
	stop func()
}

// DriveWorkloads lists all that there are.
func DriveWorkloads() []DriveWorkload {
	return []DriveWorkload{
		{Name: "mint", About: "tokens by client_credentials, with a secret", prepare: prepareMint},
		{Name: "mint-jwt", About: "tokens by client_credentials, with private_key_jwt: each request is signed anew", prepare: prepareAsserted},
		{Name: "mint-dpop", About: "tokens that are bound to a key by DPoP: each request has a proof of its own", prepare: prepareBound},
		{Name: "exchange", About: "token exchange in two hops: a delegation for the agent's token, and that for a sub-agent's", prepare: prepareExchange},
		{Name: "introspect", About: "introspection of a few tokens over and over", prepare: prepareWarm},
		{Name: "introspect-cold", About: "introspection of tokens that no node has seen before, each once (two nodes at least)", Once: true, Pair: true, prepare: prepareCold},
		{Name: "introspect-zipf", About: "introspection of many tokens, of which a few are asked about most of the time", prepare: prepareZipf},
		{Name: "introspect-batch", About: "introspection of many tokens in one request", prepare: prepareBatch},
		{Name: "revoke", About: "sessions ended, and how long until every other node refuses their tokens", Once: true, prepare: prepareRevoke},
		{Name: "fleet", About: "a fleet of agents: a mint, then several introspections of what was minted, anywhere; now and then a session is ended", prepare: prepareFleet},
		{Name: "delegations", About: "delegations created, each through the replicated log", prepare: prepareDelegations},
		{Name: "churn", About: "mints, introspections and delegations while nodes join and are removed", Own: true, prepare: prepareChurn},
		{Name: "failover", About: "mints, introspections and delegations while the node that leads is killed and comes back", Own: true, prepare: prepareFailover},
	}
}

func workloadNamed(name string) (*DriveWorkload, error) {
	all := DriveWorkloads()
	if i := slices.IndexFunc(all, func(w DriveWorkload) bool { return w.Name == name }); i >= 0 {
		return &all[i], nil
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return nil, fmt.Errorf("workload is %q; it must be one of %s", name, strings.Join(names, ", "))
}

// must200 is the failure of an answer that is no success.
func must200(status int) load.Failure {
	if status != 200 {
		return load.StatusFailure(status)
	}
	return ""
}
