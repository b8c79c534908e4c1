// Package river measures the durable deliveries of this module against River,
// a job queue on PostgreSQL, doing the same on the same server in the same run.
// It is a module of its own, so that nobody who embeds the observer sees River
// among its dependencies.
package river
