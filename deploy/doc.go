// Package deploy holds what runs Deputy on a machine: a systemd unit and a sample configuration. Its tests
// keep both true.
package deploy
