package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// Population of the delegations: enough pairs that none comes near its bound.
const (
	writeAgents     = 500
	writePrincipals = 2_000
)

// fillPairs makes the agents and the principals that delegations are made between.
func fillPairs(ctx context.Context, api *client.Client, logger *slog.Logger) (*population, error) {
	people := newPopulation(writeAgents, writePrincipals*delegationsPerPrincipal, time.Now())
	o := LoadOptions{Client: api, Agents: writeAgents, Delegations: 1, Logger: logger}
	o.setDefaults()
	for _, stage := range people.bulkStages(writeAgents, 0) {
		l := &loading{LoadOptions: o, stage: stage, seen: load.NewSample(1), outcome: Loaded{Kind: stage.kind}}
		if err := l.run(ctx); err != nil {
			return nil, fmt.Errorf("loading %ss: %w", stage.kind, err)
		}
	}
	return people, nil
}

// delegationCommand is how many bytes of the log one delegation takes, as a node writes it.
func delegationCommand(people *population) (int, error) {
	data, err := fsm.Encode(fsm.Command{
		ID: fsm.CommandID{1}, Time: people.now, By: people.id(identity.PrefixAPIToken),
		Body: fsm.CreateDelegation{Delegation: people.delegation(0)},
	})
	if err != nil {
		return 0, fmt.Errorf("encoding a delegation: %w", err)
	}
	return len(data), nil
}

// delegationMaker makes requests that create delegations, each of another pair.
type delegationMaker struct {
	people *population
	head   string
	scopes [len(lentScopes)]string // as the middle of a list
}

func newDelegationMaker(people *population, token string) *delegationMaker {
	m := &delegationMaker{
		people: people,
		head: "POST /api/v1/delegations HTTP/1.1\r\nHost: deputy.invalid\r\nAuthorization: SSWS " + token +
			"\r\nContent-Type: application/json\r\nContent-Length: ",
	}
	for i, scopes := range lentScopes {
		m.scopes[i] = strings.Join(scopes.List(), `","`)
	}
	return m
}

func (m *delegationMaker) work(connection, _ int) load.Work { return m.newWork(connection) }

func (m *delegationMaker) newWork(connection int) *delegationWork {
	const apart = 618_033 // of a million, by the golden section: any number of connections is spread evenly
	return &delegationWork{maker: m, next: connection * apart % (writePrincipals * writeAgents)}
}

// delegationWork is that of one connection. Connections begin far apart in the pairs and go on one by one.
type delegationWork struct {
	maker         *delegationMaker
	next          int
	body, request []byte
}

func (w *delegationWork) Next(call *load.Call) {
	n := w.next
	w.next++
	principal, agent := w.maker.people.pair(n)
	b := w.body[:0]
	b = append(b, `{"principal_id":"`...)
	b = append(b, principalID(principal)...)
	b = append(b, `","agent_id":"`...)
	b = append(b, agentName(agent)...)
	b = append(b, `","scopes":["`...)
	b = append(b, w.maker.scopes[n%len(lentScopes)]...)
	b = append(b, `"],"duration_seconds":`...)
	b = strconv.AppendInt(b, int64(w.maker.people.lifetime(n)/time.Second), 10)
	b = append(b, `,"reason":"`+populationReason+`","max_hops":2}`...)
	w.body = b
	r := append(w.request[:0], w.maker.head...)
	r = strconv.AppendInt(r, int64(len(b)), 10)
	r = append(r, "\r\n\r\n"...)
	w.request = append(r, b...)
	call.Request = w.request
}

func (w *delegationWork) Judge(_ *load.Call, status int, body []byte) load.Failure {
	if status != 201 {
		return load.StatusFailure(status)
	}
	if !bytes.Contains(body, []byte(`"id":"`+identity.PrefixDelegation)) {
		return load.FailureAnswer
	}
	return ""
}

// bareWork sends bare raft the same requests.
type bareWork struct{ *delegationWork }

func (*bareWork) Judge(_ *load.Call, status int, _ []byte) load.Failure {
	if status != 201 {
		return load.StatusFailure(status)
	}
	return ""
}
