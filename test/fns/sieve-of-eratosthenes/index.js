// Counts the primes under 10000 with the sieve of Eratosthenes.
const LIMIT = 10000

function countPrimes (limit) {
  const crossedOut = new Uint8Array(limit)
  let count = 0
  for (let n = 2; n < limit; n++) {
    if (crossedOut[n]) continue
    count++
    for (let multiple = n * n; multiple < limit; multiple += n) crossedOut[multiple] = 1
  }
  return count
}

module.exports = (req, res) => {
  res.send(`Found ${countPrimes(LIMIT)} primes under ${LIMIT}\n`)
}
