// Package outbound is the way out of the process for every action: one guarded
// network, one HTTP client, and one reading of what a receiver answered.
//
// Actions send what users configured to where events point, so an event could
// point inwards. The guard therefore judges the resolved address at the moment
// of dialing, when no name, redirect or DNS answer can change it any more.
package outbound
