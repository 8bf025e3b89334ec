package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/sessions"
)

// Config is what an operator writes in YAML. Every key has a default but node_id and data_dir; an unknown
// key is an error that names its line.
type Config struct {
	NodeID  string `yaml:"node_id"`  // unique for ever, also after the node was removed
	DataDir string `yaml:"data_dir"` // the node's keys, log and snapshots; made with mode 0700

	// A node starts from its data folder. A new node needs exactly one of these to come into being.
	Bootstrap     bool   `yaml:"bootstrap"`       // be the first node of a new cluster; ignored once there is data
	JoinToken     string `yaml:"join_token"`      // from `deputy cluster join-token`; ignored once there is data
	JoinTokenFile string `yaml:"join_token_file"` // the same, read from a file

	RootTokenFile string `yaml:"root_token_file"` // where a bootstrap writes the first admin token, mode 0600

	Issuer       string   `yaml:"issuer"`        // `iss` of every token; set at bootstrap, then replicated
	ExternalURLs []string `yaml:"external_urls"` // other URLs that clients know the cluster by

	Public  PublicConfig  `yaml:"public"`
	Cluster AddressConfig `yaml:"cluster"`
	Gossip  AddressConfig `yaml:"gossip"`
	Ops     OpsConfig     `yaml:"ops"`
	Log     LogConfig     `yaml:"log"`
	Limits  LimitsConfig  `yaml:"limits"`
	Disk    DiskConfig    `yaml:"disk"`

	Outbound OutboundConfig `yaml:"outbound"`
	Sessions SessionsConfig `yaml:"sessions"`
	Audit    AuditConfig    `yaml:"audit"`

	Approvals ApprovalsConfig `yaml:"approvals"`
}

// ApprovalsConfig says who is told of approvals that agents wait for. The node that leads tells, so every node should
// have the same.
type ApprovalsConfig struct {
	Webhooks []WebhookConfig `yaml:"webhooks"`
}

// WebhookConfig is one receiver of events; see docs/webhooks.md.
type WebhookConfig struct {
	URL        string `yaml:"url"`
	SecretFile string `yaml:"secret_file"` // what the events are signed with; read when the node starts
	// OldSecretFile is the secret before, while the receiver may still know only that.
	OldSecretFile string `yaml:"old_secret_file"`
}

// OutboundConfig says which addresses this node may speak to of those that are typed into it: where clients and issuers
// publish their keys, and webhooks. Addresses of the public internet it may, by https; all others are listed here.
type OutboundConfig struct {
	Allow     []netip.Prefix `yaml:"allow"`      // private networks, such as 10.1.0.0/16
	AllowHTTP []netip.Prefix `yaml:"allow_http"` // addresses that may be spoken to in the clear; keys that come so are anybody's
	CAFile    string         `yaml:"ca_file"`    // PEM of authorities that vouch for servers, beside the system's
}

// PublicConfig is the listener for everybody.
type PublicConfig struct {
	Listen  string `yaml:"listen"`
	URL     string `yaml:"url"` // how clients reach this node; by default made from listen
	TLSCert string `yaml:"tls_cert"`
	TLSKey  string `yaml:"tls_key"`

	// Peers whose X-Forwarded-For is believed, as networks such as 10.0.0.0/8. Without any, every caller behind
	// a load balancer has the balancer's address.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
}

// AddressConfig is a listener for the other nodes, and the address that they are told.
type AddressConfig struct {
	Listen    string `yaml:"listen"`
	Advertise string `yaml:"advertise"` // by default the address listened at
}

// OpsConfig is the listener for metrics, health and profiles.
type OpsConfig struct {
	Listen string `yaml:"listen"`
}

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  slog.Level `yaml:"level"`  // debug, info, warn, error
	Format string     `yaml:"format"` // text or json
}

// LimitsConfig bounds what one caller may ask of a node.
type LimitsConfig struct {
	RequestsPerSecond     int `yaml:"requests_per_second"`     // per caller; 0: no limit
	ConnectionsPerAddress int `yaml:"connections_per_address"` // per client address; 0: no limit
}

// DiskConfig keeps the disk from filling up under the log.
type DiskConfig struct {
	// ReserveMiB of the data folder's file system are kept for what stops something: below it this node, where it
	// leads, refuses other writes, and below a quarter of it the process ends. 0: none is kept.
	ReserveMiB int `yaml:"reserve_mib"`
}

// Bounds of DiskConfig.
const (
	defaultDiskReserveMiB = 256
	maxDiskReserveMiB     = 1 << 20 // a TiB
)

// SessionsConfig is what a node remembers of the sessions that it has started, for whoever lists them.
type SessionsConfig struct {
	// IndexMiB is how much memory that may take. What ends soonest makes room, and the listing says that it lacks
	// something. A session takes 180 to 650 bytes.
	IndexMiB int `yaml:"index_mib"`
}

// Bounds of SessionsConfig.
const (
	minSessionsMiB     = sessions.MinBytes / mebibyte
	defaultSessionsMiB = sessions.DefaultBytes / mebibyte
	maxSessionsMiB     = 1 << 16
)

// DefaultConfig holds the defaults that a file is read over.
func DefaultConfig() Config {
	return Config{
		Public:  PublicConfig{Listen: "127.0.0.1:8401"},
		Cluster: AddressConfig{Listen: "127.0.0.1:8411"},
		Gossip:  AddressConfig{Listen: "127.0.0.1:8431"},
		Ops:     OpsConfig{Listen: "127.0.0.1:8421"},
		Log:     LogConfig{Level: slog.LevelInfo, Format: "text"},
		Disk:    DiskConfig{ReserveMiB: defaultDiskReserveMiB},

		Sessions: SessionsConfig{IndexMiB: defaultSessionsMiB}, Audit: defaultAudit(),
	}
}

// LoadConfig reads a YAML file over the defaults. Relative paths in it are relative to where the process
// was started, as on a command line.
func LoadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads YAML over the defaults and validates it.
func ParseConfig(text []byte) (Config, error) {
	c := DefaultConfig()
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, err
	}
	if c.JoinTokenFile != "" && c.JoinToken == "" {
		token, err := os.ReadFile(c.JoinTokenFile)
		// The file may be deleted after the join; then the node starts from its data.
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return Config{}, fmt.Errorf("join_token_file: %w", err)
		}
		c.JoinToken = strings.TrimSpace(string(token))
	}
	return c, c.Validate()
}

// Validate reports everything that is wrong, each with the key's name.
func (c *Config) Validate() error {
	var wrong []error
	bad := func(key, format string, args ...any) {
		wrong = append(wrong, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if err := identity.ValidName(c.NodeID); err != nil {
		bad("node_id", "%v", err)
	}
	if c.DataDir == "" {
		bad("data_dir", "is missing; name a folder for this node alone")
	}
	if c.Bootstrap && c.JoinToken != "" {
		bad("bootstrap", "excludes join_token: a node either starts a cluster or joins one")
	}
	address := func(key, text string) {
		if _, _, err := net.SplitHostPort(text); err != nil {
			bad(key, "%q is not host:port", text)
		}
	}
	reachable := func(key string, a AddressConfig) {
		address(key+".listen", a.Listen)
		if a.Advertise != "" {
			address(key+".advertise", a.Advertise)
			return
		}
		host, _, _ := net.SplitHostPort(a.Listen)
		if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
			bad(key+".advertise", "is needed when %s.listen is %q: other nodes can't dial that", key, a.Listen)
		}
	}
	address("public.listen", c.Public.Listen)
	address("ops.listen", c.Ops.Listen)
	reachable("cluster", c.Cluster)
	reachable("gossip", c.Gossip)
	if (c.Public.TLSCert == "") != (c.Public.TLSKey == "") {
		bad("public.tls_cert", "and public.tls_key go together")
	}
	website := func(key, text string) {
		u, err := url.Parse(text)
		if text != "" && (err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "") {
			bad(key, "%q is not an http(s) URL without query and fragment", text)
		}
	}
	website("issuer", c.Issuer)
	website("public.url", c.Public.URL)
	for i, u := range c.ExternalURLs {
		website(fmt.Sprintf("external_urls/%d", i), u)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format", "is %q; it must be text or json", c.Log.Format)
	}
	if c.Limits.RequestsPerSecond < 0 || c.Limits.ConnectionsPerAddress < 0 {
		bad("limits", "must not be negative; 0 is no limit")
	}
	if c.Disk.ReserveMiB < 0 || c.Disk.ReserveMiB > maxDiskReserveMiB {
		bad("disk.reserve_mib", "is %d; it must be between 0, for none, and %d", c.Disk.ReserveMiB, maxDiskReserveMiB)
	}
	if c.Sessions.IndexMiB < minSessionsMiB || c.Sessions.IndexMiB > maxSessionsMiB {
		bad("sessions.index_mib", "is %d; it must be between %d and %d", c.Sessions.IndexMiB, minSessionsMiB, maxSessionsMiB)
	}
	c.Audit.validate(bad)
	for i, w := range c.Approvals.Webhooks {
		key := fmt.Sprintf("approvals.webhooks/%d", i)
		if w.URL == "" {
			bad(key+".url", "is missing")
		}
		if w.SecretFile == "" {
			bad(key+".secret_file", "is missing; events are signed with what it holds")
		}
	}
	return errors.Join(wrong...)
}

// Logger makes the logger that the configuration asks for.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Log.Level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)).With("node", c.NodeID)
	}
	return slog.New(slog.NewTextHandler(w, options)).With("node", c.NodeID)
}

func (c *Config) path(name string) string { return filepath.Join(c.DataDir, name) }
