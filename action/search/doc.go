// Package search is the action that keeps documents of OpenSearch, or
// Elasticsearch, in step with entities: it indexes what was inserted or updated
// and deletes what was deleted.
//
// The document, its index and its id are rendered before the first attempt and
// stored with the delivery; the server and the credentials follow the
// configuration of the moment.
package search
