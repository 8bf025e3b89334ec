// Package deploy holds what runs Deputy on a machine: a systemd unit, what to add to it for realtime
// scheduling, and a sample configuration. Its tests keep them true.
package deploy
