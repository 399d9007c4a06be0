/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of whoever made the namespace, or of an image, or of a guest that runs
 * and can write to its root: it may be anything.
 */
#include "tools/container/resolv-conf.h"

#include "firmware/agent/agent.h"
#include "tools/container/run.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RESOLV_CONF  "/etc/resolv.conf"
#define RESOLV_BYTES 65536

/* To open a device's node can do something; a guest may have made one. */
static int open_regular(void)
{
	autofd int place = open(RESOLV_CONF, O_PATH | O_CLOEXEC);
	char path[32];
	struct stat st;

	if (place < 0 || fstat(place, &st) < 0 || !S_ISREG(st.st_mode))
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* NULL: there is none. */
static char *read_file(void)
{
	autofd int fd = open_regular();
	autofree char *text = calloc(1, RESOLV_BYTES + 1);
	size_t n = 0;
	ssize_t got;

	if (fd < 0 || !text)
		return NULL;
	while (n < RESOLV_BYTES &&
	       (got = read(fd, text + n, RESOLV_BYTES - n)) > 0)
		n += (size_t)got;
	return take_ptr(text);
}

static int take_line(struct resolv_conf *conf, char *line)
{
	char *rest = NULL;
	const char *word = strtok_r(line, " \t\r", &rest);
	int r = 0;

	if (word && strcmp(word, "nameserver") == 0) {
		word = strtok_r(NULL, " \t\r", &rest);
		return word && run_is_address(word)
			       ? text_list_add(&conf->servers, word)
			       : 0;
	}
	if (!word ||
	    (strcmp(word, "search") != 0 && strcmp(word, "domain") != 0))
		return 0;
	while (r == 0 && (word = strtok_r(NULL, " \t\r", &rest)))
		r = text_list_add(&conf->search, word);
	return r;
}

int resolv_conf_read(struct resolv_conf *ret)
{
	autofree char *text = read_file();
	char *rest = NULL;
	int r = 0;

	*ret = (struct resolv_conf){0};
	for (char *line = text ? strtok_r(text, "\n", &rest) : NULL;
	     r == 0 && line; line = strtok_r(NULL, "\n", &rest))
		r = take_line(ret, line);
	return r;
}

void resolv_conf_done(struct resolv_conf *conf)
{
	text_list_done(&conf->servers);
	text_list_done(&conf->search);
}

static bool is_loopback(const char *text)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool has_text(const struct text_list *list, const char *text)
{
	for (unsigned i = 0; i < list->count; i++) {
		if (strcmp(list->item[i], text) == 0)
			return true;
	}
	return false;
}

int resolv_conf_add_names(const struct resolv_conf *conf,
			  struct text_list *names)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < conf->servers.count; i++) {
		const char *server = conf->servers.item[i];

		if (is_loopback(server) && !has_text(names, server) &&
		    names->count < AGENT_NAMES_SERVERS)
			r = text_list_add(names, server);
	}
	return r;
}
