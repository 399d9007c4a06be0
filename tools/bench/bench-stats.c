/* SPDX-License-Identifier: Apache-2.0 */
/* Quantiles, and how sure they are. */
#include "tools/bench/bench.h"

#include <jansson.h>
#include <math.h>

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void bench_sort(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
}

double bench_quantile(const double *values, unsigned count, double q)
{
	double rank;

	if (count == 0)
		return 0;
	if (q == 0.5 && count % 2 == 0)
		return (values[count / 2 - 1] + values[count / 2]) / 2;
	rank = ceil(q * count - 1e-9);
	return values[rank < 1 ? 0 : (unsigned)rank - 1];
}

/* The probability that exactly K of N values are below the quantile Q. */
static double binomial(unsigned n, unsigned k, double q)
{
	return exp(lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0) +
		   k * log(q) + (n - k) * log(1 - q));
}

bool bench_quantile_ranks(unsigned count, double q, unsigned *ret_low,
			  unsigned *ret_high)
{
	const double tail = 0.025;
	double below = 0, above = 0;
	unsigned low = 0, high = count;

	/* At most LOW values below it: as improbable as is allowed. */
	while (low < count && below + binomial(count, low, q) <= tail)
		below += binomial(count, low++, q);
	while (high > 0 && above + binomial(count, high, q) <= tail)
		above += binomial(count, high--, q);
	if (low == 0 || high >= count)
		return false;
	*ret_low = low - 1;
	*ret_high = high;
	return true;
}

json_t *bench_summary(double *values, unsigned count)
{
	static const struct {
		const char *name, *interval;
		double q;
	} quantiles[] = {{"p50", "p50_interval", 0.50},
			 {"p90", "p90_interval", 0.90},
			 {"p95", "p95_interval", 0.95},
			 {"p99", "p99_interval", 0.99}};
	json_t *json;
	double sum = 0;

	if (count == 0)
		return json_null();
	bench_sort(values, count);
	for (unsigned i = 0; i < count; i++)
		sum += values[i];
	json = json_pack("{s:i, s:f, s:f, s:f}", "count", (int)count, "min",
			 values[0], "max", values[count - 1], "mean",
			 sum / count);
	for (unsigned i = 0; i < 4; i++) {
		unsigned low, high;

		json_object_set_new(json, quantiles[i].name,
				    json_real(bench_quantile(values, count,
							     quantiles[i].q)));
		if (bench_quantile_ranks(count, quantiles[i].q, &low, &high))
			json_object_set_new(
				json, quantiles[i].interval,
				json_pack("[f, f]", values[low], values[high]));
	}
	return json;
}
