package testenv

import "context"

// What the tests of the package look at from outside.
var (
	About        = about
	Drop         = drop
	WithDatabase = withDatabase
	DatabaseName = databaseName
	ClaimRedis   = claimRedis
	ReleaseRedis = releaseRedis
)

// FindBinaries is findBinaries.
func FindBinaries(ctx context.Context) (string, error) { return findBinaries(ctx) }

// FindRedis is findRedis.
func FindRedis(ctx context.Context) (string, error) { return findRedis(ctx) }

// RunContainer returns the URL of a server in a container, and what removes it.
func RunContainer(ctx context.Context) (url string, remove func() error, err error) {
	c, err := runContainer(ctx)
	if err != nil {
		return "", nil, err
	}
	return c.url, c.remove, nil
}
