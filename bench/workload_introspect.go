package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync/atomic"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
)

var (
	saysActive   = []byte(`"active":true`)
	saysInactive = []byte(`"active":false`)
)

// asking is the work of one connection that introspects tokens which are good.
type asking struct {
	asker    *asker
	pick     func() string // the next token
	token    string
	evidence *evidence
}

func (a *asking) Next(call *load.Call) {
	a.token = a.pick()
	call.Request = a.asker.ask(a.token)
}

func (a *asking) Judge(call *load.Call, status int, body []byte) load.Failure {
	switch {
	case status != 200:
		return load.StatusFailure(status)
	case bytes.Contains(body, saysInactive):
		return wrongRefused
	case !bytes.Contains(body, saysActive):
		return load.FailureAnswer
	}
	a.evidence.keep(call, body, a.token)
	return ""
}

// askJob introspects tokens that each connection picks in its own way.
func (d *drive) askJob(pick func(connection int) func() string, tokenBytes int) *job {
	j := &job{operations: []string{"introspect"}, expected: make([]expectation, 1), evidence: newEvidence(), token: tokenBytes}
	j.work = func(connection, _ int) load.Work {
		return &asking{asker: newAsker(d.fixture), pick: pick(connection), evidence: j.evidence}
	}
	return j
}

func prepareWarm(ctx context.Context, d *drive) (*job, error) {
	pool, err := d.pool(ctx, orDefault(d.Tokens, DefaultWarmTokens))
	if err != nil {
		return nil, err
	}
	return d.askJob(func(connection int) func() string {
		next := connection
		return func() string { next++; return pool[next%len(pool)] }
	}, len(pool[0])), nil
}

// prepareCold mints as many tokens as will be asked about. A node knows those that it has signed itself, so each is asked
// about at another node.
func prepareCold(ctx context.Context, d *drive) (*job, error) {
	nodes := d.ground.nodes
	if len(nodes) < 2 {
		return nil, errors.New("introspect-cold needs two nodes at least, such as --cluster 2: a node knows the tokens that it has minted itself, so no other than those of another node are new to it")
	}
	pools, next := make([][]string, len(nodes)), make([]atomic.Int64, len(nodes))
	d.Logger.Info("minting tokens to begin with", "count", d.offers())
	for i := range nodes {
		other := (i + 1) % len(nodes)
		var err error
		if pools[i], err = harvest(ctx, nodes[other:other+1], d.fixture.mintRequest(), d.offers()/len(nodes)+1); err != nil {
			return nil, err
		}
	}
	return d.askJob(func(connection int) func() string {
		node := connection % len(nodes) // as the generator deals them out
		return func() string { return pools[node][int(next[node].Add(1)-1)%len(pools[node])] }
	}, len(pools[0][0])), nil
}

// Defaults of the mixes.
const (
	DefaultZipfTokens = 20_000
	DefaultZipf       = 1.1
	DefaultBatchSize  = 20
)

func prepareZipf(ctx context.Context, d *drive) (*job, error) {
	pool, err := d.pool(ctx, orDefault(d.Tokens, DefaultZipfTokens))
	if err != nil {
		return nil, err
	}
	exponent := orDefault(d.Zipf, DefaultZipf)
	return d.askJob(func(connection int) func() string {
		random := rand.NewZipf(rand.New(rand.NewPCG(populationSeed, uint64(connection))), exponent, 1, uint64(len(pool)-1))
		return func() string { return pool[random.Uint64()] }
	}, len(pool[0])), nil
}

func (d *drive) pool(ctx context.Context, count int) ([]string, error) {
	d.Logger.Info("minting tokens to begin with", "count", count)
	return harvest(ctx, d.ground.nodes, d.fixture.mintRequest(), count)
}

// prepareBatch asks about many tokens at once.
func prepareBatch(ctx context.Context, d *drive) (*job, error) {
	size := orDefault(d.Batch, DefaultBatchSize)
	pool, err := d.pool(ctx, max(size, orDefault(d.Tokens, DefaultWarmTokens)))
	if err != nil {
		return nil, err
	}
	basic := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(d.fixture.application.ID) + ":" + url.QueryEscape(d.fixture.application.Secret)))
	var requests [][]byte
	for at := 0; at+size <= len(pool); at += size {
		body, err := json.Marshal(wire.IntrospectionBatch{Tokens: pool[at : at+size]})
		if err != nil {
			return nil, err
		}
		requests = append(requests, fmt.Appendf(nil,
			"POST /oauth2/introspect/batch HTTP/1.1\r\nHost: deputy.invalid\r\nAuthorization: Basic %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			basic, len(body), body))
	}
	j := &job{operations: []string{"introspect, batch"}, expected: make([]expectation, 1), evidence: newEvidence(), token: len(pool[0])}
	j.work = func(connection, _ int) load.Work { return &asksMany{requests: requests, size: size, next: connection} }
	return j, nil
}

// asksMany is the work of one connection that introspects in batches. Each answer must say of every token that it is
// good.
type asksMany struct {
	requests   [][]byte
	size, next int
}

func (a *asksMany) Next(call *load.Call) {
	call.Request = a.requests[a.next%len(a.requests)]
	a.next++
}

func (a *asksMany) Judge(_ *load.Call, status int, body []byte) load.Failure {
	switch {
	case status != 200:
		return load.StatusFailure(status)
	case bytes.Contains(body, saysInactive):
		return wrongRefused
	case bytes.Count(body, saysActive) != a.size:
		return load.FailureAnswer
	}
	return ""
}
