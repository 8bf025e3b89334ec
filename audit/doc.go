// Package audit keeps the record of every decision: who asked, on whose behalf, for what, what was answered and
// by which policy. A node writes its own log; each record holds the hash of the one before it, and at short
// intervals a checkpoint, signed with the node's key, fixes everything so far. Nodes keep each other's checkpoints,
// so that cutting off the end of a log shows as well.
//
// A record is on its way to the disk (write(2)) before the decision is answered, and synced within 50 ms: kill -9
// loses nothing that was acknowledged. Whatever exports records (sinks) reads the local log at its own pace and can
// slow nobody down.
//
// A Log is opened once per node with Open. Verify and VerifyProof need no Log: they judge files. The format, what
// exactly is found and what was turned down are in DESIGN.md.
package audit
