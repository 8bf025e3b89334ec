package identity

// Member is a node of the cluster. A node is its key: every cluster connection is checked against it.
type Member struct {
	ID            string  `codec:"i"`
	Key           []byte  `codec:"k"` // Ed25519 public key, 32 bytes
	ClusterAddr   string  `codec:"ca"`
	GossipAddr    string  `codec:"ga"`
	PublicURL     string  `codec:"pu,omitempty"`
	Joined        Instant `codec:"jt"`
	JoinToken     string  `codec:"jk,omitempty"` // jtk_… that let it in; empty for the first node
	JoinedFrom    string  `codec:"jf,omitempty"` // remote address that presented the join token
	Removed       Instant `codec:"rt,omitempty"` // set once it was removed; the id is never used again
	RemovalReason string  `codec:"rr,omitempty"`
	Barred        Instant `codec:"bt,omitempty"` // set by "no more leases": the node is on its way out and may speak no more
	Draining      Instant `codec:"dt,omitempty"` // mints nothing and does not want to lead
	RotateKey     uint64  `codec:"rk,omitempty"` // log index of the last wish for a new token key
}

// JoinToken lets one node join, once.
type JoinToken struct {
	ID      string  `codec:"i"` // jtk_…
	Hash    []byte  `codec:"h"` // SHA-256 of the secret
	By      string  `codec:"b,omitempty"`
	Created Instant `codec:"ct"`
	Expires Instant `codec:"et"`
	Used    Instant `codec:"ut,omitempty"`
	UsedBy  string  `codec:"ub,omitempty"` // node id
}

// SigningKey is the public half of a node's token key.
type SigningKey struct {
	KID     string  `codec:"k"` // RFC 7638 thumbprint
	Node    string  `codec:"n"`
	Alg     string  `codec:"a"` // "EdDSA"
	Public  []byte  `codec:"p"`
	Created Instant `codec:"ct"`
	Retired Instant `codec:"rt,omitempty"` // no longer signs; still verifies until its last token ends
}

// Settings hold for the whole cluster.
type Settings struct {
	ClusterID         string   `codec:"id"`
	Issuer            string   `codec:"is"`
	ExternalURLs      []string `codec:"ex,omitempty"` // accepted in aud and htu beside the issuer
	OfflineTTLSeconds int64    `codec:"ot"`           // longest token for an application that verifies offline
	LeaseMillis       int64    `codec:"lm"`           // how long a node may speak after it proved to be fresh
	GossipKeys        [][]byte `codec:"gk,omitempty"` // AES-256, the first one encrypts

	KeyRotationSeconds int64 `codec:"kr,omitempty"` // how long a token key signs before its node makes another; 0: until asked
}

// Defaults of Settings.
const (
	DefaultOfflineTTLSeconds = 300
	DefaultLeaseMillis       = 10_000

	DefaultKeyRotationSeconds = 30 * 24 * 3600
	MinKeyRotationSeconds     = 3600 // a key is published at half that age, which must leave time for a node that is away
	MaxKeyRotationSeconds     = 365 * 24 * 3600
)

// Validate holds every field to its bound.
func (s *Settings) Validate() error {
	var v violations
	v.uri("/issuer", s.Issuer, MaxAudienceLength)
	if len(s.ExternalURLs) > MaxApplications {
		v.add("/external_urls", "has %d entries; at most %d are allowed", len(s.ExternalURLs), MaxApplications)
	}
	for _, u := range s.ExternalURLs {
		v.uri("/external_urls", u, MaxAudienceLength)
	}
	v.between("/offline_token_ttl_seconds", s.OfflineTTLSeconds, MinSessionSeconds, MaxSessionSeconds)
	v.between("/lease_milliseconds", s.LeaseMillis, 500, 60_000)
	if s.KeyRotationSeconds != 0 {
		v.between("/key_rotation_seconds", s.KeyRotationSeconds, MinKeyRotationSeconds, MaxKeyRotationSeconds)
	}
	return v.err("the settings are not valid")
}
