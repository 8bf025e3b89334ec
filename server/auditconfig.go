package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/outbound"
)

// AuditConfig is how this node keeps the record of every decision.
type AuditConfig struct {
	// Sync is when a record is safe from a power cut: batched, within 50 ms, or always, before the answer. From kill -9 it
	// is safe in either.
	Sync string `yaml:"sync"`
	// Full is what happens where a record can't be written in time: block, no record, no token; or drop-and-count.
	Full string `yaml:"full"`

	SegmentMiB        int `yaml:"segment_mib"`        // size of a file
	RetentionDays     int `yaml:"retention_days"`     // how long records are kept
	RetentionMiB      int `yaml:"retention_mib"`      // and how much of them, at most
	CheckpointSeconds int `yaml:"checkpoint_seconds"` // the longest time that a record stays unsigned

	// Introspections says which are recorded: tools, those that name the tool for whose call they are asked; all; none.
	Introspections string `yaml:"introspections"`

	Sinks []AuditSinkConfig `yaml:"sinks"` // where records go besides
}

// AuditSinkConfig is one place that records are sent to.
type AuditSinkConfig struct {
	Name    string `yaml:"name"` // names its cursor and its metrics
	Type    string `yaml:"type"` // file, stdout, syslog or webhook
	FromNow bool   `yaml:"from_now"`
	Batch   int    `yaml:"batch"` // the most records sent at once; 0: 500

	Path string `yaml:"path"` // of a file

	Address  string `yaml:"address"`   // of syslog: host:port, TCP
	TLS      bool   `yaml:"tls"`       // RFC 5425
	CAFile   string `yaml:"ca_file"`   // PEM of authorities that vouch for the receiver; the system's by default
	CertFile string `yaml:"cert_file"` // to show to the receiver
	KeyFile  string `yaml:"key_file"`
	Facility int    `yaml:"facility"` // 0: 13, log audit
	App      string `yaml:"app"`      // "": deputy
	PEN      int    `yaml:"enterprise_number"`

	URL        string `yaml:"url"`         // of a webhook
	SecretFile string `yaml:"secret_file"` // its secret, at least 32 characters
}

// Kinds of sinks.
const (
	sinkFile    = "file"
	sinkStdout  = "stdout"
	sinkSyslog  = "syslog"
	sinkWebhook = "webhook"
)

const (
	auditBatched = "batched"

	defaultAuditSegmentMiB    = 64
	defaultAuditRetentionDays = 90
	defaultAuditRetentionMiB  = 10 << 10
	maxAuditSegmentMiB        = 1 << 10
	maxAuditRetentionDays     = 36500
	maxAuditRetentionMiB      = 1 << 24
	maxAuditCheckpointSeconds = 3600
	maxAuditSinks             = 16
	maxSecretFile             = 4 << 10
)

func defaultAudit() AuditConfig {
	return AuditConfig{
		Sync: auditBatched, Full: string(audit.FullBlock), SegmentMiB: defaultAuditSegmentMiB, RetentionDays: defaultAuditRetentionDays,
		RetentionMiB: defaultAuditRetentionMiB, CheckpointSeconds: 1, Introspections: string(api.IntrospectionsTools),
	}
}

// validate reports everything that is wrong, each with the key's name.
func (c *AuditConfig) validate(bad func(key, format string, args ...any)) {
	if c.Sync != auditBatched && c.Sync != string(audit.SyncAlways) {
		bad("audit.sync", "is %q; it must be %s or %s", c.Sync, auditBatched, audit.SyncAlways)
	}
	if c.Full != string(audit.FullBlock) && c.Full != string(audit.FullDropAndCount) {
		bad("audit.full", "is %q; it must be %s or %s", c.Full, audit.FullBlock, audit.FullDropAndCount)
	}
	between := func(key string, n, least, most int) {
		if n < least || n > most {
			bad("audit."+key, "is %d; it must be between %d and %d", n, least, most)
		}
	}
	between("segment_mib", c.SegmentMiB, 1, maxAuditSegmentMiB)
	between("retention_days", c.RetentionDays, 1, maxAuditRetentionDays)
	between("retention_mib", c.RetentionMiB, max(1, c.SegmentMiB), maxAuditRetentionMiB)
	between("checkpoint_seconds", c.CheckpointSeconds, 1, maxAuditCheckpointSeconds)
	switch api.Introspections(c.Introspections) {
	case api.IntrospectionsAll, api.IntrospectionsTools, api.IntrospectionsNone:
	default:
		bad("audit.introspections", "is %q; it must be %s, %s or %s", c.Introspections, api.IntrospectionsTools, api.IntrospectionsAll, api.IntrospectionsNone)
	}
	if len(c.Sinks) > maxAuditSinks {
		bad("audit.sinks", "has %d entries; at most %d are allowed", len(c.Sinks), maxAuditSinks)
	}
	names := map[string]bool{}
	for i := range c.Sinks {
		s := &c.Sinks[i]
		in := func(key, format string, args ...any) { bad(fmt.Sprintf("audit.sinks/%d/%s", i, key), format, args...) }
		if err := identity.ValidName(s.Name); err != nil {
			in("name", "%v", err)
		}
		if names[s.Name] {
			in("name", "is %q, as that of another sink", s.Name)
		}
		names[s.Name] = true
		s.validate(in)
	}
}

func (s *AuditSinkConfig) validate(bad func(key, format string, args ...any)) {
	if s.Batch < 0 || s.Batch > 10_000 {
		bad("batch", "is %d; it must be between 0, for the default, and 10000", s.Batch)
	}
	switch s.Type {
	case sinkFile:
		if s.Path == "" {
			bad("path", "is missing; name the file that records are appended to")
		}
	case sinkStdout:
	case sinkSyslog:
		if _, _, err := net.SplitHostPort(s.Address); err != nil {
			bad("address", "%q is not host:port", s.Address)
		}
		if (s.CertFile == "") != (s.KeyFile == "") {
			bad("cert_file", "and key_file go together")
		}
		if !s.TLS && (s.CAFile != "" || s.CertFile != "") {
			bad("tls", "is false, and yet there is a certificate; set it to true")
		}
	case sinkWebhook:
		if s.URL == "" {
			bad("url", "is missing")
		}
		if s.SecretFile == "" {
			bad("secret_file", "is missing; put at least %d random characters into a file that only this process can read", outbound.MinSecret)
		}
	default:
		bad("type", "is %q; it must be %s, %s, %s or %s", s.Type, sinkFile, sinkStdout, sinkSyslog, sinkWebhook)
	}
}

// open makes the sink.
func (s *AuditSinkConfig) open(client *outbound.Client) (audit.Sink, error) {
	switch s.Type {
	case sinkFile:
		return audit.NewFileSink(s.Path), nil
	case sinkStdout:
		return audit.NewWriterSink(os.Stdout), nil
	case sinkSyslog:
		o := audit.SyslogOptions{Address: s.Address, Facility: s.Facility, App: s.App, Enterprise: s.PEN}
		if s.TLS {
			var err error
			if o.TLS, err = s.tls(); err != nil {
				return nil, err
			}
		}
		return audit.NewSyslogSink(o)
	}
	secret, err := s.secret()
	if err != nil {
		return nil, err
	}
	return newWebhookSink(client, s.Name, s.URL, secret)
}

func (s *AuditSinkConfig) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", s.CAFile)
		}
	}
	if s.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (s *AuditSinkConfig) secret() (outbound.Secret, error) {
	info, err := os.Stat(s.SecretFile)
	if err != nil {
		return "", fmt.Errorf("secret_file: %w", err)
	}
	if info.Size() > maxSecretFile {
		return "", fmt.Errorf("secret_file: %s has %d bytes; a secret has at most %d", s.SecretFile, info.Size(), maxSecretFile)
	}
	text, err := os.ReadFile(s.SecretFile)
	if err != nil {
		return "", fmt.Errorf("secret_file: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	if len(secret) < outbound.MinSecret {
		return "", errors.New("secret_file: the secret of a webhook has at least " + fmt.Sprint(outbound.MinSecret) + " characters")
	}
	return outbound.Secret(secret), nil
}
