// Package deploy holds what runs Deputy on a machine: a systemd unit, what to add to it where the machine is the
// node's own, and a sample configuration. Its tests keep them true.
package deploy
