import sys, tempfile, traceback, time
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
import climate, facilities, frames, genomics, images, matlab, molecules, particles, simulations, texts
from family import FAMILIES
print(len(FAMILIES))
for f in FAMILIES.values():
    if len(sys.argv) > 1 and f.name not in sys.argv[1:]: continue
    if any(n.startswith("program:") for n in f.needs): continue
    t=time.time()
    with tempfile.TemporaryDirectory() as d:
        try:
            c = f.make(Path(d)); 
            if time.time()-t>2: print(f.name, "slow", time.time()-t)
        except Exception: print("=====", f.name); traceback.print_exc()
