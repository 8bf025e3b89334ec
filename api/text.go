package api

import "unsafe"

// textOf views bytes as a string without copying them, for lookups on the hot path.
//
// Lifetime rule: the result is valid only while the bytes are not changed, so it must not outlive the call
// that it is passed to, and nothing may keep it. Use it for map lookups, hashing and comparisons alone.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
