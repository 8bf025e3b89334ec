package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/deputy-id/deputy/identity"
)

// population makes objects as a large installation has them: the n-th is always the same, but for ids and
// times. Sizes are those of the objects that people really make, not the least that validate.
type population struct {
	agents     int
	principals int
	now        identity.Instant
	random     *rand.Rand
}

const (
	// delegationsPerPrincipal is how many agents a person lends to on average.
	delegationsPerPrincipal = 10
	// populationSeed makes every run the same run.
	populationSeed    = 20260417
	populationPrefix  = "bench-load-"
	populationReason  = "user clicked 'summarize inbox'"
	populationSession = 4 * 3600 // seconds
)

func newPopulation(agents, delegations int, now time.Time) *population {
	return &population{
		agents: agents, principals: max(1, delegations/delegationsPerPrincipal),
		now: identity.InstantOf(now), random: rand.New(rand.NewPCG(populationSeed, 1)),
	}
}

// id is a fresh id; ids ascend as they do in production.
func (p *population) id(prefix string) string { return p.idAt(prefix, p.now) }

func (p *population) idAt(prefix string, at identity.Instant) string {
	var entropy [10]byte
	binary.BigEndian.PutUint64(entropy[:8], p.random.Uint64())
	binary.BigEndian.PutUint16(entropy[8:], uint16(p.random.Uint32()))
	return identity.NewID(prefix, at, entropy)
}

func agentName(n int) string { return populationPrefix + "agent-" + sevenDigits(n) }

func principalID(n int) string { return populationPrefix + "user-" + sevenDigits(n) + "@example.com" }

// sevenDigits is %07d; names are made for each request.
func sevenDigits(n int) string {
	text := strconv.Itoa(n)
	return "0000000"[min(len(text), 7):] + text
}

// populationScopes are what every agent may be granted; a delegation lends two of them.
const populationScopes identity.Scopes = "calendar.read gmail.draft gmail.read zendesk.tickets.read"

var lentScopes = [...]identity.Scopes{"gmail.draft gmail.read", "calendar.read gmail.read", "calendar.read zendesk.tickets.read"}

func (p *population) agent(n int) identity.Agent {
	secret := identity.HashSecret(agentName(n))
	return identity.Agent{
		Name: agentName(n), Description: fmt.Sprintf("Classifies tickets of queue %d and assigns them", n),
		OwnerGroup: fmt.Sprintf("team-%03d", n%500), Type: identity.AgentAutonomous,
		DefaultScopes: populationScopes, MaxSessionSeconds: populationSession,
		Groups: []string{fmt.Sprintf("fleet-%02d", n%50)},
		Credentials: []identity.Credential{{
			ID: p.id(identity.PrefixCredential), Kind: identity.CredentialSecret, Hash: secret[:], Created: p.now,
		}},
		Status: identity.StatusActive, Created: p.now, Updated: p.now,
	}
}

func (p *population) principal(n int) identity.Principal {
	return identity.Principal{
		ID: principalID(n), DisplayName: fmt.Sprintf("User %d", n), Status: identity.StatusActive,
		Created: p.now, Updated: p.now,
	}
}

// runtimeSecret opens the API token of the population's runtime.
const runtimeSecret = "an API token's text has forty-three characters"

// runtime is who starts sessions for users.
func (p *population) runtime() identity.APIToken {
	secret := identity.HashSecret(runtimeSecret)
	return identity.APIToken{
		ID: p.id(identity.PrefixAPIToken), Name: populationPrefix + "runtime", Hash: secret[:],
		Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{identity.AnyAgent}, Created: p.now,
	}
}

// pair is whom the n-th delegation is between. Every principal lends to agents far apart.
func (p *population) pair(n int) (principal, agent int) {
	return n % p.principals, (n*7919 + n/p.principals) % p.agents
}

func (p *population) delegation(n int) identity.Delegation {
	principal, agent := p.pair(n)
	return identity.Delegation{
		ID: p.id(identity.PrefixDelegation), Principal: principalID(principal), Agent: agentName(agent),
		Scopes: lentScopes[n%len(lentScopes)], Created: p.now, Expires: p.now.Add(p.lifetime(n)),
		Reason: populationReason, Origin: "deputy bench", MaxHops: identity.MaxChain, Status: identity.DelegationActive,
	}
}

// lifetime spreads expiries over a month, so that the index by expiry is one.
func (p *population) lifetime(n int) time.Duration {
	return time.Duration(1+n%30)*24*time.Hour + time.Duration(n%86_400)*time.Second
}
