// Package middleware holds the layers around an action, one file each. They
// are composed in one place, by package topology, outermost first:
//
//	known > dedup > first pass > observe > dead letter > defer > fallback > retry >
//	breaker > limit > report > timeout > recover > action
//
// A layer decides one thing. What it decides about the delivery as a whole it
// writes into the delivery (State, Reason, Error), so that the layers outside
// it and the caller see it; the error that leaves the outermost layer means
// that the outcome could not be recorded.
package middleware
