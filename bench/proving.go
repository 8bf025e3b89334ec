package bench

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/client"
)

// nonceAge is how old a nonce may grow: nodes take theirs back for four minutes.
const nonceAge = 45 * time.Second

// verifyFor is how long bare verification is timed.
const verifyFor = 200 * time.Millisecond

// proving makes requests of an agent that proves itself by a key, or binds its token to one. Each costs the node one more
// signature to verify, and each is good only once.
type proving struct {
	agent  client.Credentials
	issuer string
	key    *client.Key
	scheme string // of the nodes
	http   *http.Client
	nonces sync.Map // address → *nonce
}

type nonce struct {
	text    atomic.Pointer[string]
	fetched atomic.Int64 // Unix nanoseconds
}

// newProving registers a key of the run's own for the fixture's agent, which takes it along when it goes.
func newProving(ctx context.Context, f *fixture) (*proving, error) {
	key, err := client.NewKey()
	if err != nil {
		return nil, err
	}
	metadata, err := f.api.Metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the issuer: %w", err)
	}
	if err := f.create(ctx, "/api/v1/agents/"+fixtureAgent+"/credentials", nil, wire.CredentialRequest{JWKS: key.JWK()}, nil); err != nil {
		return nil, fmt.Errorf("registering a key of %s: %w", fixtureAgent, err)
	}
	return &proving{agent: f.agent, issuer: metadata.Issuer, key: key, scheme: "http://", http: http.DefaultClient}, nil
}

// asserted is a mint by private_key_jwt.
func (p *proving) asserted(string) []byte {
	form := mintForm()
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", p.key.Assertion(p.agent.ID, p.issuer, time.Now()))
	body := form.Encode()
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: deputy.invalid\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		tokenPath, len(body), body)
}

// bound is a mint by the agent's secret of a token that is bound to the key.
func (p *proving) bound(address string) []byte {
	plain := string(formRequest(tokenPath, p.agent, mintForm()))
	proof := wire.HeaderDPoP + ": " + p.key.Proof(http.MethodPost, p.target(), p.nonceOf(address), "", time.Now()) + "\r\n"
	return []byte(strings.Replace(plain, "Content-Type:", proof+"Content-Type:", 1))
}

func (p *proving) target() string { return strings.TrimRight(p.issuer, "/") + tokenPath }

// nonceOf is the nonce of the node at an address. One worker fetches it anew when it has grown old.
func (p *proving) nonceOf(address string) string {
	known, _ := p.nonces.LoadOrStore(address, new(nonce))
	n := known.(*nonce)
	now := time.Now().UnixNano()
	if fetched := n.fetched.Load(); now-fetched > int64(nonceAge) && n.fetched.CompareAndSwap(fetched, now) {
		if text, err := p.fetchNonce(address); err == nil {
			n.text.Store(&text)
		} else {
			n.fetched.Store(0)
		}
	}
	if text := n.text.Load(); text != nil {
		return *text
	}
	return "" // the node will refuse, and the failure is counted
}

// fetchNonce asks as a client does: by a proof that has none.
func (p *proving) fetchNonce(address string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), load.DefaultTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.scheme+address+tokenPath, strings.NewReader(mintForm().Encode()))
	if err != nil {
		return "", err
	}
	request.SetBasicAuth(url.QueryEscape(p.agent.ID), url.QueryEscape(p.agent.Secret))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set(wire.HeaderDPoP, p.key.Proof(http.MethodPost, p.target(), "", "", time.Now()))
	response, err := p.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()                       //nolint:errcheck // nothing is read
	_, _ = io.Copy(io.Discard, response.Body)         // so that the connection is kept
	text := response.Header.Get(wire.HeaderDPoPNonce) // of a refusal
	if text == "" {
		return "", errors.New("the node gave out no nonce")
	}
	return text, nil
}

// Proving is what it costs to prove more than a secret does.
type Proving struct {
	Name        string        `json:"name"`
	Ratio       result.Spread `json:"ratio"`        // to handler + sign, round by round
	ExtraMicros float64       `json:"extra_micros"` // of the server's CPU for each mint, beyond one by client_secret; 0 where unknown
}

// timeVerify is how long one Ed25519 signature of a token's size takes to verify here, with nothing else to do.
func timeVerify(size int) (micros float64, err error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return 0, err
	}
	message := make([]byte, size)
	signature := ed25519.Sign(private, message)
	count := 0
	begun := time.Now()
	for time.Since(begun) < verifyFor {
		if !ed25519.Verify(public, message, signature) {
			return 0, errors.New("BUG: a signature does not verify")
		}
		count++
	}
	return float64(time.Since(begun).Microseconds()) / float64(count), nil
}

// proofRatios are those of the subjects that prove more than a secret.
func (r *run) proofRatios(report *Report) (list []Proving) {
	ceiling := r.subjects[len(r.subjects)-1].rates
	for i, s := range r.subjects {
		if i == 0 || s.ceiling != "" {
			continue
		}
		ratios := make([]float64, min(len(ceiling), len(s.rates)))
		for j := range ratios {
			if ceiling[j] > 0 {
				ratios[j] = s.rates[j] / ceiling[j]
			}
		}
		p := Proving{Name: s.name, Ratio: result.SpreadOf(ratios)}
		if plain, own := report.Subjects[0].RatePerCPU, report.Subjects[i].RatePerCPU; plain > 0 && own > 0 {
			p.ExtraMicros = 1e6/own - 1e6/plain
		}
		list = append(list, p)
	}
	return list
}

// addProving has mints that prove more take their turns beside those by a secret.
func (r *run) addProving(ctx context.Context, plain load.Target, pid int) error {
	p, err := newProving(ctx, r.fixture)
	if err != nil {
		return err
	}
	if r.verifyMicros, err = timeVerify(r.shape.Token); err != nil {
		return err
	}
	for _, way := range []struct {
		name  string
		fresh func(string) []byte
	}{{"mint, private_key_jwt", p.asserted}, {"mint, DPoP", p.bound}} {
		t := plain
		t.Fresh, t.Requests = way.fresh, [][]byte{way.fresh(plain.Addresses[0])}
		if err := r.add(way.name, "", t, pid); err != nil {
			return err
		}
	}
	return nil
}
