package server

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// JoinToken is what an operator carries from a running cluster to a new node: a single-use secret, and
// where the members are with the keys that they must show, so that the new node can't be lured elsewhere.
type JoinToken struct {
	Cluster string       `json:"c"`
	Secret  string       `json:"s"`
	Members []JoinTarget `json:"m"`
}

// JoinTarget is one member to ask.
type JoinTarget struct {
	Address string            `json:"a"`
	Key     ed25519.PublicKey `json:"k"`
}

const (
	joinTokenPrefix = "dpj_"

	// maxJoinTargets keeps a token short enough to paste; any live member will do.
	maxJoinTargets = 5
	maxJoinToken   = 4096
)

func (t JoinToken) String() string {
	text, err := json.Marshal(t)
	if err != nil {
		panic("BUG: a join token of strings and bytes always marshals")
	}
	return joinTokenPrefix + base64.RawURLEncoding.EncodeToString(text)
}

// ParseJoinToken reads what String wrote. Its error never repeats the token, which holds a secret.
func ParseJoinToken(text string) (JoinToken, error) {
	bad := identity.Errorf(identity.CodeJoinTokenInvalid, "the join token is not one").
		WithHint("paste the whole line that `deputy cluster join-token` printed; it begins with %s", joinTokenPrefix)
	body, ok := strings.CutPrefix(strings.TrimSpace(text), joinTokenPrefix)
	if !ok || len(body) > maxJoinToken {
		return JoinToken{}, bad
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return JoinToken{}, bad
	}
	var t JoinToken
	if err := json.Unmarshal(decoded, &t); err != nil || t.Secret == "" || len(t.Members) == 0 || len(t.Members) > maxJoinTargets {
		return JoinToken{}, bad
	}
	for _, m := range t.Members {
		if len(m.Key) != ed25519.PublicKeySize || m.Address == "" {
			return JoinToken{}, bad
		}
	}
	return t, nil
}

// joinRequest is what a new node says on the join connection; its key is proven by the handshake.
type joinRequest struct {
	Secret      string `json:"secret"`
	NodeID      string `json:"node_id"`
	ClusterAddr string `json:"cluster_addr"`
	GossipAddr  string `json:"gossip_addr"`
	PublicURL   string `json:"public_url"`

	// Filled in by the member that was asked, for the leader.
	Key  []byte `json:"key,omitempty"`
	From string `json:"from,omitempty"`
}

// joinAnswer tells a new node what it can't know before its log has been replayed.
type joinAnswer struct {
	Error      *identity.Error   `json:"error,omitempty"`
	Index      uint64            `json:"index"` // of the admission; the node is in once it applied that
	Cluster    string            `json:"cluster"`
	Members    []identity.Member `json:"members"`
	GossipKeys [][]byte          `json:"gossip_keys"`
}

func (r *joinRequest) validate() error {
	if err := identity.ValidName(r.NodeID); err != nil {
		return identity.Errorf(identity.CodeValidation, "node_id %v", err)
	}
	for _, field := range []struct{ name, text string }{
		{"cluster_addr", r.ClusterAddr}, {"gossip_addr", r.GossipAddr}, {"public_url", r.PublicURL},
	} {
		if field.text == "" || len(field.text) > identity.MaxAudienceLength {
			return identity.Errorf(identity.CodeValidation, "%s has %d characters; it needs 1 to %d", field.name, len(field.text), identity.MaxAudienceLength)
		}
	}
	if len(r.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("the joining node's key has %d bytes; Ed25519 has %d", len(r.Key), ed25519.PublicKeySize)
	}
	return nil
}
