"""get.py URL COUNT: COUNT requests, each on a connection of its own; counts who answered."""
import collections
import http.client
import sys
import urllib.parse

url, count = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2])
answers = collections.Counter()
failures = collections.Counter()
for _ in range(count):
    try:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
        connection.request("GET", url.path)
        answers[connection.getresponse().read().decode().split()[0]] += 1
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        failures[str(error)] += 1
for name, times in sorted(answers.items()):
    print(f"{name:<6} {times:>3} answers")
for reason, times in failures.items():
    print(f"failed {times:>3} times: {reason}")
sys.exit(1 if failures else 0)
