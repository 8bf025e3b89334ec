package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/tokens"
)

// coldSubject is how introspection of tokens that the node has not seen is called.
const coldSubject = "introspect, cold"

// spare is by how much more tokens a turn is given than signatures can be verified in it: those that are left over are
// lost.
const spare = 1.25

// coldTokens are tokens of which each is asked about once.
type coldTokens struct {
	fixture *fixture
	node    []load.Node // where they are minted
	perTurn float64     // tokens for each second of a turn

	tokens [][]byte // requests
	next   atomic.Int64
	again  atomic.Int64 // asked about a second time, as there were no more
}

// fresh takes the next.
func (c *coldTokens) fresh(string) []byte {
	n := c.next.Add(1) - 1
	if n >= int64(len(c.tokens)) {
		c.again.Add(1)
	}
	return c.tokens[n%int64(len(c.tokens))]
}

// refill mints what a turn can use up at most.
func (c *coldTokens) refill(ctx context.Context, turn time.Duration) error {
	count := max(1, int(c.perTurn*turn.Seconds()))
	minted, err := harvest(ctx, c.node, c.fixture.mintRequest(), count)
	if err != nil {
		return err
	}
	c.tokens = c.tokens[:0]
	for _, token := range minted {
		c.tokens = append(c.tokens, c.fixture.introspectRequest(token))
	}
	c.next.Store(0)
	return nil
}

// addCold has introspection of tokens not seen before take its turns.
func (r *run) addCold(measured load.Target, pid int) (err error) {
	if r.verifyMicros, err = timeVerify(r.shape.Token); err != nil {
		return err
	}
	c := &coldTokens{fixture: r.fixture, perTurn: spare * 1e6 / r.verifyMicros}
	c.node = r.other()
	r.cold = c
	measured.Requests, measured.Fresh = measured.Requests[:1], c.fresh
	if err := r.add(coldSubject, "", measured, pid); err != nil {
		return err
	}
	r.subjects[0].refill = c.refill
	return nil
}

// startPair brings up two nodes: one that is measured, on the server's core, and one that mints for it. A node knows the
// tokens that it has signed itself, so those are never new to it.
func (r *run) startPair(ctx context.Context) (err error) {
	r.Logger.Info("starting a node and one that mints for it", "cpus", r.cpus.server)
	o := ownClusterOptions{binary: r.Binary, nodes: 2}
	if r.cpus.pinned() {
		o.cpus = [][]int{r.cpus.server, r.cpus.generator}
	}
	if r.pair, err = startOwnCluster(ctx, o); err != nil {
		return err
	}
	r.ops = r.pair.nodes[0].address.Ops
	r.Client, err = r.pair.clientOf(r.pair.nodes[0].address.Public)
	return err
}

// other is the node that mints.
func (r *run) other() []load.Node {
	return []load.Node{{Address: hostOf(r.pair.nodes[1].address.Public)}}
}

// verifyKey is the public key that the token was signed by.
func (r *run) verifyKey(ctx context.Context, token string) (string, error) {
	claims, err := tokens.Decode([]byte(token))
	if err != nil {
		return "", fmt.Errorf("reading a token: %w", err)
	}
	var published wire.JWKS
	if _, err := r.Client.Do(ctx, &client.Request{Method: http.MethodGet, Path: "/.well-known/jwks.json"}, &published); err != nil {
		return "", fmt.Errorf("reading the published keys: %w", err)
	}
	for i := range published.Keys {
		if published.Keys[i].KeyID == claims.KID {
			return published.Keys[i].X, nil
		}
	}
	return "", fmt.Errorf("key %.64s is not among the %d that are published", claims.KID, len(published.Keys))
}
