"""Word tables of the stand-in reviews: a table's words, commonest first.

A line that starts at the margin opens a table: its name, the exponent of its power law and a
colon, then the words. A word is drawn with weight 1 / position ** exponent, so the order is part of
the data: moving a word to the front makes it common. An exponent of about 1 gives the head of a
language, 0.3 a nearly even spread, for words of which each should come up once or not at all.
`_` stands for a space inside an entry, `#` opens a comment. All entries are our own.
"""

WORD_TABLES = """
# the product and its parts
n 1.25: product quality one shuttle item shuttles shuttlecock shuttlecocks purchase cork stuff
    corks piece deal thing box buy brand pack set birdie tube material shuttlecoks parcel order
    service performance choice condition packing value bird option
n2 1.35: product quality one shuttle item shuttlecock purchase cork deal stuff buy packing
    performance service price delivery brand shuttles material products work job design value
    seller packaging collection choice
sh 1.1: shuttle product shuttles shuttlecock item shuttlecocks cork corks pack birdie box set
    birdies tube piece cocks bird cock birds shuttel
shs 1.1: shuttles shuttlecocks corks pieces cocks birdies items products birds
asp 1.2: quality durability packing delivery price speed flight cork balance service performance
    weight skirt material base packaging life finish accuracy control cap shape colour tube
    stability feel strength bounce trajectory seal build stitching texture drift grip nylon glue
    sound ring label design brand stock range sturdiness consistency rotation spin length
    lightness elasticity smoothness toughness precision
part 1.1: cork feathers skirt nylon base cap tip head bottom ring thread net plastic feather rim
    edges glue string tube lid stem fins rubber ribs mesh joint tail shaft collar wings foam
    coating neck centre corners petals tape binding sponge seam nose blades quills frill crown
    vanes flaps pores bristles
brand 0.75: aerolite featherjet swiftwing plumex smashpro rallyking windcock courtline nylo
    birdiemax netflyer shuttlon dropshot skyfeather procork zipwing racketo clearfly tournex
    baseliner matchplume
model 0.9: 350 300 10 200 2000 500 5 100 1000 7 250 370
cap 0.8: green blue red white yellow
# praise and blame
g 1.2: good nice best super excellent great awesome superb perfect genuine original amazing fine
    fantastic wonderful decent worthy durable satisfactory lovely better beautiful fabulous
    outstanding brilliant quality reliable top mindblowing cool fast marvellous solid sturdy
    terrific premium pretty splendid impressive smooth extraordinary classic pleasing incredible
    magnificent delightful
grare 0.25: commendable flawless unbeatable remarkable admirable stunning faultless exceptional
    charming neat crisp refined dependable trustworthy superior graceful tidy elegant handy lively
    pleasant gorgeous supreme ultimate phenomenal royal stylish steady robust resilient sleek
    peerless pristine polished matchless rocking dazzling epic heavenly unmatched fab dashing
    killer wow legendary sublime topnotch praiseworthy noteworthy exquisite professional accurate
    precise balanced featherlight lightweight economical affordable authentic certified sealed
    intact noble worthwhile valuable rewarding cheerful rapid prompt punctual courteous speedy
    careful kindly honest humble thoughtful encouraging comfortable convenient enjoyable playable
    usable repeatable
b 2.1: bad poor worst damaged old cheap duplicate useless low broken fake waste slow terrible
    horrible defective pathetic disappointing local loose weak used worthless costly rough faulty
    third-class inferior rubbish delicate torn dull heavy wobbly uneven overpriced cheating awful
    substandard
brare 0.25: flimsy brittle crooked dented mouldy shabby scratched squashed crushed bogus sloppy
    miserable ugly dusty stale hopeless lousy ridiculous dreadful atrocious worn tattered bent
    twisted ripped soggy sticky fragile floppy lopsided unstable wonky shaky jerky clumsy mediocre
    feeble hollow dishonest careless irresponsible unprofessional unacceptable unreliable
    unplayable unfair annoying frustrating irritating unworthy outdated expired rejected
    refurbished recycled counterfeit pirated mismatched misleading shameful greedy nasty stinking
    smelly yellowish discoloured faded rusty frayed unglued cracked chipped punctured deformed
    shapeless incomplete empty missing crumpled oversized undersized overweight underweight
    tasteless senseless pointless sad gloomy bitter gruesome laughable harsh
v 0.9: ok average okay fine normal not_bad decent fair moderate so-so medium standard ordinary
    regular typical usual mediocre passable acceptable tolerable basic plain manageable middling
    bearable adequate reasonable sufficient
adv 1.1: very really so too super pretty quite just truly always absolutely simply extremely
    overall totally also definitely indeed highly damn fully
bad_adv 1: very so too really totally extremely absolutely simply utterly such completely badly
    terribly awfully fully
often 0.7: always usually regularly daily everyday mostly generally sometimes often frequently
    normally occasionally weekly nowadays recently finally again continuously previously lately
    rarely seldom ordinarily
verdict 0.65: satisfied happy impressed glad pleased comfortable delighted thrilled convinced
    contented thankful grateful relieved overjoyed fulfilled proud excited amazed blessed
    speechless stunned hooked addicted cheerful
sadword 0.9: disappointed unhappy dissatisfied upset cheated sad frustrated angry annoyed fooled
    fed_up hurt shocked disgusted irritated regretful heartbroken worried furious deceived trapped
    robbed betrayed dejected ashamed displeased bothered disheartened hopeless tired puzzled
    confused
# what happens to it
broke 1: broke damaged tore cracked loosened split separated detached snapped collapsed bent
    opened popped crumbled failed flattened shattered frayed disintegrated vanished burst slipped
    peeled wrecked deformed crushed dented wobbled warped shrank expired leaked unravelled
    ruptured fractured splintered died melted ripped punctured shredded dropped tumbled swelled
    chipped
act 0.6: smash drop clear rally serve toss drive lob net_shot flick jump_smash backhand defend
    half_smash dribble push slice forehand block lift kill
use 0.7: playing practice daily_use outdoor indoor beginners training tournaments matches coaching
    kids doubles fun exercise fitness club_games singles professionals rough_use office_games
    warm_up gifting hostel_games learners league_games time_pass intermediate_players seniors
    amateurs knockouts drills evening_games workouts schools colleges camps picnics vacations
    juniors ladies stamina reflexes footwork
# who, where, when
who 0.35: friends family son coach kids brother players daughter father team wife cousin group
    husband sister colleagues partner students uncle neighbours nephew mates teammates children
    trainer niece roommate boss grandson seniors captain juniors classmates manager teacher
    buddies gang mother opponent dad beginners mom aunty grandfather physio principal clients
    staff trainees flatmates bhaiya professor landlord nurse doctor batchmates owner warden
    secretary chairman cadets sir madam instructor umpire watchman baby toddler in-laws fiance
    girlfriend boyfriend twins youngsters veterans elders villagers constable engineer banker
    soldier farmer shopkeeper carpenter electrician accountant pilot lawyer tailor plumber barber
polite 0.3: prompt polite quick helpful courteous kind friendly punctual humble careful honest
    professional cooperative caring responsive smiling cheerful patient trustworthy speedy
    obliging attentive gentle sincere gracious
person 0.5: brother father uncle sister neighbour cousin coach husband wife friend mother
    roommate nephew son daughter aunt partner niece mate
where 0.35: court ground club stadium home office academy school college terrace hall gym park
    street hostel society campus colony garden village backyard apartment gully complex beach
    parking rooftop camp playground township courtyard lane hotel community_centre sports_complex
    clubhouse balcony driveway farmhouse gallery barracks quarters factory temple_ground verandah
    resort auditorium cantonment warehouse marketyard riverside corridor porch plaza dormitory
    embassy refinery shipyard railway_ground hillside lakeside bypass mall orchard seashore lawn
city 0.3: bangalore hyderabad chennai delhi pune mumbai kolkata lucknow jaipur kochi indore nagpur
    patna surat bhopal vizag mysore madurai trichy guntur nellore ranchi guwahati kanpur agra
    varanasi ludhiana amritsar jammu shimla dehradun goa thane nashik rajkot vadodara udaipur
    jodhpur kota raipur cuttack siliguri shillong imphal aizawl kohima gangtok salem erode tirupur
    hosur mangalore hubli belgaum kannur
when 0.45: morning evening sunday weekend night yesterday winter summer today holidays lockdown
    saturday afternoon rainy_season monsoon diwali tomorrow vacation sundays mornings evenings
    tonight covid january february december april november october monday tuesday wednesday
    thursday friday dussehra pongal onam holi christmas midnight noon dawn dusk birthday
    anniversary exams festival weekday fortnight quarantine eid lohri ugadi republic_day sankranti
    navratri raksha_bandhan newyear
units 0.9: days games matches hours weeks months sets years minutes rounds sessions smashes points
    shots hits rallies evenings seconds strokes serves tournaments seasons
unit1 0.9: day game match week month hour set session evening year smash round shot rally weekend
    minute hit tournament season knock stroke
long_units 0.8: days games weeks matches months sets evenings sessions weekends seasons years
long_unit1 0.8: week month day match season weekend tournament year summer fortnight
few 0.8: 2 1 3 two one 4 three some half 5 four many few several
box 0.9: 6 12 10 six 24 twelve ten 18 30
low 0.7: 2 3 two 4 1 one three 5 four
high 0.7: 6 10 7 8 12 six ten 15 seven 9 20
num 0.75: 2 3 4 5 two 6 10 15 3 12 7 20 three four five six 30 8 ten 25 40 seven 9 eight 50 twelve
    60 18 100 fifteen twenty 45 nine 14 thirty fifty 11 13 22 hundred 35 90 16 eleven
rs 0.5: 650 700 600 750 800 550 500 900 850 999 499 720 680 1000 640 399 590 770 825 1200 630 669
    709 780 450 350 620 710 740 799 879 910 949 1050 1100 575 535 585
cheap 0.8: low reasonable best cheap affordable lowest good attractive fair discounted cheaper
    moderate right unbelievable throwaway competitive wholesale nominal decent
shop 0.6: market shop local_shop store sports_shop outside offline retail dealer showroom
    wholesaler mall vendor outlet bazaar retailer shopkeeper stall supermarket stationery
    distributor emporium hawker trader merchant franchise
courier 0.6: delivery_boy courier seller delivery_guy flipkart team company vendor delivery_person
    logistics customer_care supplier agent dealer executive packing_team warehouse helpline driver
    postman dispatcher manufacturer retailer sender shipper carrier handler importer exporter
packfault 0.5: open torn crushed wet dirty broken empty tampered unsealed loose pressed damaged
    dusty bent scratched squeezed wrinkled damp oily half_open stained mangled leaking muddy
    ripped re-taped drenched greasy battered mishandled
# comparisons and asides: the long tail
like 0.25: rocket bullet feather stone butterfly toy rock paper arrow dream charm brick balloon
    kite snail potato eagle parachute tortoise machine leaf knife helicopter paperplane breeze
    ghost biscuit papad sparrow missile drunkard pigeon bubble jet hammer banana cotton pendulum
    boomerang scooter bullock_cart firecracker matchbox eggshell pebble polythene umbrella coconut
    cricket_ball ping_pong_ball samosa jalebi peacock swan crow mosquito housefly dragonfly moth
    elephant cheetah rabbit tornado comet satellite spaceship saucer drone spring slipper frisbee
    bumblebee lollipop
good_like 0.3: rocket bullet butterfly arrow dream charm eagle breeze missile jet champion king
    peacock swan cheetah comet feather bird pro magic falcon hawk ballerina
extra 0.3: racket grip net bag socks towel wristband headband t-shirt bottle kit cover keychain
    sticker jersey warranty_card invoice bill coupon voucher cashback hologram barcode receipt
    manual thermocol bubble_wrap carton envelope pouch zipper whistle wrapper leaflet calendar
    magnet pen badge lanyard
seen_on 0.4: seal barcode sticker hologram label lid invoice website app logo packet cover carton
    receipt price_tag batch_number nameplate wrapper catalogue
skill 0.2: footwork stamina reflexes timing wrist confidence rhythm accuracy technique swing
    placement strokes backhand serve balance fitness agility posture concentration coordination
    anticipation tactics shoulder diet sleep mood discipline metabolism flexibility endurance
    eyesight forehand smash focus body warmup cardio breathing
weather 0.4: wind rain heat humidity cold sun breeze dust moisture summer fog dew storm drizzle
    sunlight chill mist gust temperature darkness floodlight
wish 0.3: improve reduce check increase replace maintain upgrade control change inspect test
    correct monitor review fix rethink verify manage revise rectify supervise investigate
    strengthen address tighten track modify standardise audit polish reconsider repair adjust
    lower scan educate warn penalise punish train apologise refund compensate clarify explain
    streamline sanitise authenticate notice solve
issue 0.55: problem issue doubt complaint difference tension damage defect fault worry delay
    regret trouble confusion fear hassle risk drawback hesitation objection fuss quarrel headache
    mistake error bug shortcoming flaw blemish dent scratch compromise
gain 0.45: experience deal choice result surprise offer brand discount start idea decision gift
    bargain pick investment combination selection upgrade companion treasure memory substitute
    alternative combo workout addition improvement design stock lot
sorrow 0.45: experience deal idea decision lesson shame joke loss mistake policy service story
    batch surprise scam fraud drama cheat nightmare tragedy disaster mess trick trap robbery bluff
    copy imitation clone gamble blunder disgrace failure downfall
feel 0.45: recommend suggest think feel believe guess hope suppose prefer say swear admit assure
    promise insist reckon confirm conclude presume repeat declare notice realise understand
    remember confess vouch
finer 0.5: better stronger smoother faster sharper steadier finer quicker lighter cleaner
    tougher surer cleverer bolder safer livelier calmer
more 0.6: faster slower lighter heavier better cheaper harder softer stronger weaker smaller
    bigger tougher shorter louder brighter thinner thicker rougher smoother stiffer tighter looser
    straighter steadier finer costlier
level 0.35: beginner club school intermediate college state district level professional amateur
    university national weekend retired colony corporate village left-handed doubles singles
    serious casual advanced keen veteran zonal university seasonal self-taught lazy aggressive
    defensive former inter-college office part-time
surface 0.25: wooden cement mud synthetic grass tiled clay concrete rubber sandy carpet marble
    rooftop matted asphalt granite gravel slippery dusty uneven open covered
lost_at 0.3: roof tree drain balcony terrace pond well lake bush neighbours_house gutter sunshade
    river chimney hedge parking generator_room banyan lamp_post cowshed staircase attic
    coconut_tree water_tank skylight billboard canal temple godown
kept_in 0.3: cupboard drawer kitbag almirah fridge car locker cabinet shelf trunk dickey backpack
    loft suitcase garage showcase rack basket attic cellar handbag bucket briefcase wardrobe
price_of 0.3: coffee petrol pizza lunch breakfast haircut movie_ticket tuition biryani auto_fare
    recharge cricket_ball burger tea newspaper dinner bus_pass medicine gym_fee ice-cream onion
    lpg milk tomato_rate shampoo icecream popcorn thali parking_fee
media 0.4: youtube instagram television facebook newspaper poster hoarding whatsapp reel magazine
    advertisement blog telegram google brochure podcast banner livestream
event 0.25: tournament knockout league camp festival final semifinal inauguration picnic
    sports_day championship annual_day trials quarterfinal farewell reunion friendly fest marathon
    fundraiser olympiad selection_round get-together trophy wedding
pain 0.3: knee ankle wrist elbow shoulder back neck heel thumb calf spine palm finger hip eyes
    forearm hamstring muscle toe thigh
job 0.3: teacher nurse banker driver engineer clerk doctor soldier student tailor chef farmer
    lawyer pensioner policeman pharmacist salesman architect librarian lecturer journalist painter
    electrician receptionist mechanic conductor postman welder dentist photographer musician
    gardener accountant plumber carpenter surveyor programmer contractor veterinarian geologist
    priest magistrate dancer barber baker potter weaver
animal 0.25: dog cat puppy monkey kitten parrot goat cow squirrel rabbit calf rat pigeon hen
    buffalo labrador lizard mongoose duck goose
chore 0.2: office school dinner work college tuition yoga gym prayer homework exams shift shopping
    jogging breakfast duty classes meetings temple cooking lectures hospital swimming
    practical_class night_duty gardening rehearsal
colour 0.25: yellow white orange green pink red silver blue black cream golden purple neon
    fluorescent brown ivory grey maroon beige turquoise lemon transparent
land 0.5: india china japan malaysia indonesia korea taiwan denmark thailand vietnam nepal
    singapore germany bhutan bangladesh europe
fate 0.3: unopened untouched unused half-used discarded forgotten retired idle wasted returned
    repaired stitched taped recycled donated burnt thrown buried exchanged
howadv 0.3: beautifully nicely smoothly perfectly properly neatly safely cleanly wonderfully
    accurately gracefully consistently steadily swiftly quietly evenly brilliantly effortlessly
    carefully tightly securely superbly precisely correctly softly sweetly
badhow 0.3: badly poorly weirdly randomly carelessly roughly strangely sideways crookedly
    awkwardly horribly slowly loosely unevenly erratically lazily clumsily terribly instantly
    suddenly easily quickly shamelessly blindly wrongly cheaply
end 1: thanks thank_you thanks_flipkart thank_you_flipkart thank_u tq thnx thanks_a_lot keep_it_up
    cheers kudos hats_off god_bless gracias bravo well_done salute respect good_luck take_care
    regards
hing 0.6: bahut badhiya accha mast ekdum zabardast bhai sahi bekar ghatiya paisa vasool jabardast
    theek thik bilkul lekin nahi hai kharab yaar dost khelne khel maza aaya sasta mehnga jaldi
    chalega lajawab shandar kamaal dhansu jhakaas wah faltu paise barbad dhoka nakli asli kya
    kyunki matlab waqt subah shaam roz mohalle bachche bhi toh aur wala wale lena mat lijiye
    kharido tagda solid dum ghar mein tak kaafi
"""
